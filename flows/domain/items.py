"""The items of a batch of events as one flat frame, and sums over the items of each event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from flows.domain.family import Items


@dataclass(frozen=True)
class FlatItems:
    """All items of a batch.

    Shape: `frame` has one row per item, in the order of the events; `owner` has the index of its
    event per item, `counts` the number of items per event.
    """

    frame: pl.DataFrame
    owner: np.ndarray
    counts: np.ndarray


def items_of(events: pl.DataFrame, items: Items) -> FlatItems:
    """Flatten the items of a batch."""
    lists = events[items.name]
    counts = lists.list.len().to_numpy().astype(np.int64)
    # Whether `explode` drops an empty list or makes a null of it is a default that has changed
    # between versions of Polars: so empty lists do not reach it.
    filled = lists if counts.all() else lists.filter(pl.Series(counts > 0))
    if len(filled):
        frame = filled.explode().struct.unnest()
    else:
        frame = pl.DataFrame(schema=dict(items.columns))
    return FlatItems(frame, np.repeat(np.arange(len(events)), counts), counts)


def sums_of(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum consecutive stretches of integers, of `counts` values each."""
    # Differences of a running sum need no loop. They are right even if the running sum overflows,
    # since integers wrap around; a group-by would hash every item.
    ends = np.cumsum(counts)
    running = np.concatenate(([0], np.cumsum(values)))
    sums: np.ndarray = running[ends] - running[ends - counts]
    return sums


def summed(flat: FlatItems, values: pl.DataFrame, sums: Mapping[str, pl.Expr]) -> list[pl.Series]:
    """Sum columns over the items of each event.

    Shape: `values` has one column per entry of `sums` and one row per item; the result has one
    series per entry and one value per event.
    """
    return [
        pl.Series(name, sums_of(values[name].to_numpy(), flat.counts), pl.Int64) for name in sums
    ]


def first_of_event(flat: FlatItems, columns: Sequence[str]) -> np.ndarray:
    """Mark the items that are the first of their event with their values in the columns."""
    first = np.ones(len(flat.frame), bool)
    # Only events with several items can repeat one.
    shared = flat.counts[flat.owner] > 1
    if shared.any():
        several = (
            flat.frame.select(columns)
            .with_columns(pl.Series("owner", flat.owner))
            .filter(pl.Series(shared))
        )
        distinct = several.select(pl.struct(pl.all()).is_first_distinct())
        first[shared] = distinct.to_series().to_numpy()
    return first
