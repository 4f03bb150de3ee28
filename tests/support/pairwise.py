"""Cases in which every two values meet, instead of all combinations of all values.

A fault of a query shows with one value or with two that meet; a cross product repeats each pair
as often as the other parameters have values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

Row = list[int]
Pair = tuple[int, int, int, int]
"""A factor, the index of its value, a later factor, the index of its value."""


def pairwise(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Choose rows so that every value of every factor meets every value of every other one.

    Shape: one value per factor, in the order of the factors; the same factors give the same rows.
    Source: In-Parameter-Order (Lei and Tai, "In-parameter-order: a test generation strategy for
    pairwise testing", 1998): the two longest factors in full, then one more factor at a time.
    """
    longest_first = sorted(range(len(factors)), key=lambda f: -len(factors[f]))
    sizes = [len(factors[f]) for f in longest_first]
    rows = [list(row) for row in product(*map(range, sizes[:2]))]
    for size in sizes[2:]:
        _widen(rows, size)
    if len(sizes) > 2:
        rows += _missing(rows, sizes)
    places = {factor: place for place, factor in enumerate(longest_first)}
    return [tuple(factors[f][row[places[f]]] for f in range(len(factors))) for row in sorted(rows)]


def _widen(rows: list[Row], size: int) -> None:
    """Give each row the value of a new factor that brings the most new pairs with the others."""
    met: set[tuple[int, int, int]] = set()
    used: Counter[int] = Counter()
    for row in rows:
        new = [sum((f, x, v) not in met for f, x in enumerate(row)) for v in range(size)]
        value = max(range(size), key=[(new[v], -used[v]) for v in range(size)].__getitem__)
        met |= {(f, x, value) for f, x in enumerate(row)}
        used[value] += 1
        row.append(value)


def _missing(rows: list[Row], sizes: list[int]) -> Iterator[Row]:
    """Rows for the pairs that no row has; what a pair leaves open is the first value."""
    met = {pair for row in rows for pair in pairs_of(row)}
    for pair in _all_pairs(sizes):
        if pair not in met:
            row = [0] * len(sizes)
            row[pair[0]], row[pair[2]] = pair[1], pair[3]
            met.update(pairs_of(row))
            yield row


def pairs_of(row: Sequence[int]) -> Iterator[Pair]:
    """List the pairs of values that meet in a row."""
    for (f, x), (g, y) in combinations(enumerate(row), 2):
        yield f, x, g, y


def _all_pairs(sizes: list[int]) -> Iterator[Pair]:
    for f, g in combinations(range(len(sizes)), 2):
        for x, y in product(range(sizes[f]), range(sizes[g])):
            yield f, x, g, y
