"""Say by which of two ways the hot path runs, where one is faster and both give the same."""

from __future__ import annotations

from collections.abc import Iterator

from flows.connectors.producers import edge_of
from flows.domain.kernels.compiled import is_kept
from flows.domain.kernels.warm import warm
from flows.runtime.settings import Settings
from shopstream.doctor.finding import Finding


def examine_speed(settings: Settings) -> Iterator[Finding]:
    """Look at the inner loops and the producers."""
    if settings.kernels == "on":
        warm()
        kept = is_kept()
        yield Finding(
            "inner loops",
            "compiled" if kept else "compiled anew by each process, which takes some seconds",
            "" if kept else "Set NUMBA_CACHE_DIR to a folder that the flows can write",
        )
    else:
        yield Finding("inner loops", "the reference, which is slower (SHOPSTREAM_KERNELS=off)")
    edge = edge_of(settings.kafka_edge)
    found = {"native": "librdkafka's C interface", "client": "the client of Python, slower"}[edge]
    missing = edge != settings.kafka_edge
    yield Finding("producers", found + (": the library was not found" if missing else ""))
