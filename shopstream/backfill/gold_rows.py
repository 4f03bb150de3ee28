"""Count the rows of every gold table and its roll-ups from the events of a whole day.

The metric catalogue says how. Flows count batch by batch what is counted here in one go;
`test_history_is_counted_as_flows_count` holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from flows.domain.counting import once
from flows.domain.metrics import CATALOGUE, MetricTable, Scope
from flows.domain.rollups import ROLLUPS, SYNTHETIC, Rollup, of_metric
from flows.domain.tables import GOLD, Table
from flows.domain.validate import items_of, sums_of

SHARED = ("event_time", "event_type", "shop_id", "currency")
TableRows = tuple[Table, pl.DataFrame]
"""A table and rows of it.

Shape: the columns of the table in order, sorted by key.
"""


def gold_rows(events: pl.DataFrame) -> Iterator[list[TableRows]]:
    """Count the minutes, hours and days of each metric.

    Shape: events of whole UTC days, with the columns of web_event.
    """
    frames = by_scope(events)
    for metric in CATALOGUE:
        minutes = minutes_of(metric, frames[metric.scope])
        yield [(GOLD[metric.name], minutes), *coarser(minutes, of_metric(metric))]


def by_scope(events: pl.DataFrame) -> dict[Scope, pl.DataFrame]:
    """Make what metrics read: events with two sums over their items, and items with their event.

    Shape: items have the columns SHARED of their event, and `once`.
    """
    items, owner = items_of(events)
    counts = np.bincount(owner, minlength=len(events))
    quantity = items["quantity"].to_numpy().astype(np.int64)
    amounts = quantity * items["unit_price_minor"].to_numpy()
    sums = {"items_units": sums_of(quantity, counts), "items_total_minor": sums_of(amounts, counts)}
    shared = events[list(SHARED)][owner]
    return {
        Scope.EVENT: events.with_columns(
            **{name: pl.Series(values) for name, values in sums.items()}
        ),
        Scope.ITEM: items.hstack([*shared.get_columns(), pl.Series("once", once(items, owner))]),
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
