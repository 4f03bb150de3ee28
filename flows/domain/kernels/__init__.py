"""The inner loops of the hot path, compiled by numba: pure functions over arrays.

Each has a reference in Python (Polars, hirola, pyruhvro, pgpq) that gives the same answers, which
`SHOPSTREAM_KERNELS=off` picks; tests hold both to the same outputs byte by byte.
"""
