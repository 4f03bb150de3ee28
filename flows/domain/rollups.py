"""Derive the hours and days of every table of minutes from the catalogue.

Days are summed from hours and hours from minutes. What cannot be summed over time is left out:
distinct visitors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from flows.domain.families import CATALOGUE
from flows.domain.metrics import Measure, MetricTable
from flows.domain.tables import GOLD, OUTCOMES, RULES, Table

# Every partition that a flow counts is rolled up into one. Synthetic rows stay apart, so that they
# can be removed.
REAL, SYNTHETIC = 0, -1


class Grain(StrEnum):
    """How long the windows of a table are."""

    MINUTE = "1m"
    HOUR = "1h"
    DAY = "1d"


WIDTHS = {
    Grain.MINUTE: timedelta(minutes=1),
    Grain.HOUR: timedelta(hours=1),
    Grain.DAY: timedelta(days=1),
}
# Thirty days of hours take 160 MB for the largest table: small enough to drop, and few enough
# chunks to plan (docs/adr/004).
CHUNKS = {Grain.HOUR: timedelta(days=30), Grain.DAY: timedelta(days=360)}


@dataclass(frozen=True, eq=False)
class Rollup:
    """A coarser table.

    Its rows have the `sums` over those of the finer table.

    Time: the windows are `[window_start, window_start + width)`.
    """

    finer: Table
    table: Table
    grain: Grain
    sums: tuple[str, ...]

    @property
    def width(self) -> timedelta:
        """Give the length of its windows."""
        return WIDTHS[self.grain]

    @property
    def by(self) -> tuple[str, ...]:
        """Name the columns of its key besides time and partition."""
        return tuple(k for k in self.table.keys if k not in ("window_start", "partition"))


def stem(name: str) -> str:
    """Cut the grain off a name of minutes: `orders_1m` and `gold.orders_1m_by_partition`."""
    start, grain, _ = name.rpartition("_1m")
    if not grain:
        raise ValueError(f"{name}: only tables of minutes (_1m) are rolled up")
    return start


def rollups(minutes: Table, sums: tuple[str, ...], by: tuple[str, ...]) -> tuple[Rollup, Rollup]:
    """Derive the hours and the days of a table of minutes."""
    keys = ("window_start", "partition", *by)
    columns = {k: minutes.columns[k] for k in keys} | dict.fromkeys(sums, "bigint")

    def coarser(finer: Table, grain: Grain) -> Rollup:
        table = Table(
            f"{stem(minutes.name)}_{grain}_rows", columns, keys, None, chunk=CHUNKS[grain]
        )
        return Rollup(finer, table, grain, sums)

    hours = coarser(minutes, Grain.HOUR)
    return hours, coarser(hours.table, Grain.DAY)


def of_metric(metric: MetricTable) -> tuple[Rollup, Rollup]:
    """Derive the hours and the days of a metric; its distinct measures do not add up."""
    summed = tuple(m.name for m in metric.stored if m.distinct is None)
    sums = tuple(dict.fromkeys(("events", *summed)))
    return rollups(GOLD[metric.name], sums, tuple(d.name for d in metric.by))


def of_quality(table: Table) -> tuple[Rollup, Rollup]:
    """Derive the hours and the days of a table of quality: numbers are summed by all texts."""
    numbers = tuple(c for c, kind in table.columns.items() if kind == "bigint")
    return rollups(table, numbers, tuple(c for c, kind in table.columns.items() if kind == "text"))


def additive(metric: MetricTable) -> tuple[Measure, ...]:
    """Give the measures that a roll-up has: sums, and the formulas over them."""
    distinct = {m.name for m in metric.measures if m.distinct is not None}
    return tuple(
        m
        for m in metric.measures
        if m.distinct is None and not (m.formula and distinct & words(m.formula))
    )


def words(formula: str) -> set[str]:
    """Give the words of an SQL formula, names of measures among them."""
    return set("".join(c if c.isalnum() or c == "_" else " " for c in formula).split())


def rolled(metric: MetricTable, grain: Grain) -> MetricTable:
    """Derive the metric that a roll-up shows."""
    name = f"{stem(metric.name)}_{grain}"
    return replace(metric, name=name, measures=additive(metric), window=WIDTHS[grain])


GOLD_ROLLUPS = {f"{stem(m.name)}_{r.grain}": r for m in CATALOGUE for r in of_metric(m)}
QUALITY_ROLLUPS = (*of_quality(OUTCOMES), *of_quality(RULES))
ROLLUPS = (*GOLD_ROLLUPS.values(), *QUALITY_ROLLUPS)
# The tables that others are summed from: flows mark which of their hours changed.
ROLLED_UP = {r.finer.name for r in ROLLUPS if r.grain is Grain.HOUR}
BY_GRAIN = {
    Grain.MINUTE: (*GOLD.values(), OUTCOMES, RULES),
    Grain.HOUR: tuple(r.table for r in ROLLUPS if r.grain is Grain.HOUR),
    Grain.DAY: tuple(r.table for r in ROLLUPS if r.grain is Grain.DAY),
}
