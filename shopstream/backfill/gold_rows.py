"""Count the rows of every gold table and its roll-ups from the events of a whole day.

The metric catalogue says how. Flows count batch by batch what is counted here in one go;
`test_history_is_counted_as_flows_count` holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from flows.domain.family import Family
from flows.domain.items import first_of_event, items_of, summed
from flows.domain.metrics import MetricTable, Scope
from flows.domain.rollups import ROLLUPS, SYNTHETIC, Rollup, of_metric
from flows.domain.tables import GOLD, Table
from flows.domain.web import WEB

TableRows = tuple[Table, pl.DataFrame]
"""A table and rows of it.

Shape: the columns of the table in order, sorted by key.
"""


def gold_rows(events: pl.DataFrame, family: Family = WEB) -> Iterator[list[TableRows]]:
    """Count the minutes, hours and days of each metric.

    Shape: events of whole UTC days, with the columns of the family's contract.
    """
    frames = by_scope(events, family)
    for metric in family.metrics:
        minutes = minutes_of(metric, frames[metric.scope])
        yield [(GOLD[metric.name], minutes), *coarser(minutes, of_metric(metric))]


def by_scope(events: pl.DataFrame, family: Family) -> dict[Scope, pl.DataFrame]:
    """Make what metrics read: events with sums over their items, and items with their event.

    Shape: an item has the columns of its event beside its own, and `once`.
    """
    items = family.items
    if items is None:
        return {Scope.EVENT: events}
    flat = items_of(events, items)
    values = flat.frame.select(value.alias(name) for name, value in items.metric_sums.items())
    inherited = events.drop(items.name, *items.columns, strict=False)[flat.owner]
    once = pl.Series("once", first_of_event(flat, items.once_per))
    return {
        Scope.EVENT: events.with_columns(summed(flat, values, items.metric_sums)),
        Scope.ITEM: flat.frame.hstack([*inherited.get_columns(), once]),
    }


def minutes_of(metric: MetricTable, frame: pl.DataFrame) -> pl.DataFrame:
    """Count the rows of a metric's windows."""
    table = GOLD[metric.name]
    every = f"{int(metric.window.total_seconds())}s"
    # a measure may be called as a column that it reads: a trailing space keeps the two apart
    summed = {
        m.name: m.value.cast(pl.Int64).alias(f"{m.name} ")
        for m in metric.stored
        if m.value is not None
    }
    counted = {
        m.name: pl.col(m.distinct).alias(f"{m.name} ")
        for m in metric.stored
        if m.distinct is not None
    }
    chosen = frame.filter(metric.where).select(
        pl.col("event_time").dt.truncate(every).alias("window_start"),
        *(d.value.alias(d.name) for d in metric.by),
        *summed.values(),
        *counted.values(),
    )
    numbers = [pl.len().cast(pl.Int64).alias("events")]
    numbers += [pl.col(f"{name} ").sum().alias(name) for name in summed if name != "events"]
    numbers += [pl.col(f"{name} ").n_unique().cast(pl.Int64).alias(name) for name in counted]
    grouped = chosen.group_by("window_start", *(d.name for d in metric.by)).agg(numbers)
    return as_table(table, grouped.with_columns(pl.lit(SYNTHETIC, pl.Int32).alias("partition")))


def coarser(minutes: pl.DataFrame, rollups: tuple[Rollup, ...]) -> Iterator[TableRows]:
    """Sum minutes of whole UTC days up to hours and days."""
    frame = minutes
    for rollup in rollups:
        every = f"{int(rollup.width.total_seconds())}s"
        keys = [pl.col("window_start").dt.truncate(every), "partition", *rollup.by]
        frame = frame.group_by(keys).agg(pl.col(rollup.sums).sum())
        yield rollup.table, as_table(rollup.table, frame)


def rollups_of(table: Table) -> tuple[Rollup, ...]:
    """Give the hours and the days of a table of minutes."""
    (hours,) = (r for r in ROLLUPS if r.finer is table)
    (days,) = (r for r in ROLLUPS if r.finer is hours.table)
    return hours, days


def as_table(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Bring columns and rows into the order of the table."""
    return frame.select(list(table.columns)).sort(table.keys)
