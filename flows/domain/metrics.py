"""What a metric is: a number counted over events, grouped by dimensions, in windows of event time.

A metric is data. The tables, views and outputs of flows follow from the catalogue (families.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import polars as pl


class Unit(StrEnum):
    """What a number counts; amounts of money are integers in minor units."""

    COUNT = "count"
    PIECES = "pieces"
    MINOR = "minor units of the row's currency"


class Scope(StrEnum):
    """What a metric counts: events, or the items in them."""

    EVENT = "event"
    ITEM = "item"


@dataclass(frozen=True)
class Measure:
    """A number of a row.

    `value` is summed over the row's events (or items); `distinct` counts the different values of a
    column; `formula` is SQL over the other measures of the view. One of the three is set.
    """

    name: str
    unit: Unit
    title: str
    help: str
    value: pl.Expr | None = None
    distinct: str | None = None
    formula: str | None = None


@dataclass(frozen=True)
class Dimension:
    """A column that rows are grouped by.

    With `cap`, the number of its different values per window and shop is bounded; the rest becomes
    `(other)`.
    """

    name: str
    value: pl.Expr
    cap: bool = False


@dataclass(frozen=True)
class MetricTable:
    """Rows of numbers by window and dimensions.

    Time: event time, windows `[start, start + window)`, UTC.
    """

    name: str
    title: str
    scope: Scope
    where: pl.Expr
    by: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    window: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        if sum(m.distinct is not None for m in self.measures) > 1:
            raise ValueError(f"{self.name}: at most one distinct measure per table")

    @property
    def stored(self) -> tuple[Measure, ...]:
        """Give the measures that are columns of the table; the others are formulas of its view."""
        return tuple(m for m in self.measures if m.formula is None)


def by(*names: str) -> tuple[Dimension, ...]:
    """Make dimensions of columns of the event or item."""
    return tuple(Dimension(n, pl.col(n)) for n in names)


def when(condition: pl.Expr, value: pl.Expr | int = 1) -> pl.Expr:
    """Give the value where the condition holds, else 0."""
    return pl.when(condition).then(value).otherwise(0)
