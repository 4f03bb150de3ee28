"""Find the events on a clean topic that our cleaning cannot have written: no table takes them.

Whoever may write to the topic can put anything there, and one such event must not end the flow.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flows.connectors.avro import schemas
from flows.domain.batch import Batch, milliseconds_of
from flows.domain.family import Family, Items
from flows.domain.items import FlatItems, items_of
from flows.domain.metrics import Scope
from flows.domain.tables import MOST_KEY_BYTES, NEWEST_MS, OLDEST_MS

# Sums of an event's items up to here leave room for a thousand million of them in an int64.
MOST_SUM = 2.0**33 * 10**6


class ForeignEvents:
    """Judge the events of a family."""

    def __init__(self, family: Family) -> None:
        self._items = family.items
        fields = schemas.load(family.clean_contract).fields
        nullable = {name for name, field in fields.items() if isinstance(field["type"], list)}
        texts = {name for name in family.texts if name in fields}
        keys = [d.value for m in family.metrics if m.scope is Scope.EVENT for d in m.by]
        key_texts = sorted({n for key in keys for n in key.meta.root_names()} & texts)
        self._lengths = [pl.col(name).str.len_bytes().fill_null(0) for name in key_texts]
        self._without_key = [
            metric.where & dimension.value.is_null()
            for metric in family.metrics
            if metric.scope is Scope.EVENT
            for dimension in metric.by
            if set(dimension.value.meta.root_names()) & nullable
        ]
        lacks = pl.any_horizontal(self._without_key) if self._without_key else pl.lit(False)
        self._suspicions = (
            lacks.any().alias("lacks a key"),
            pl.sum_horizontal(length.max() for length in self._lengths).alias("longest"),
        )

    def flat_of(self, events: pl.DataFrame) -> FlatItems | None:
        """Give the items of events."""
        return None if self._items is None else items_of(events, self._items)

    def find(self, events: pl.DataFrame, batch: Batch, flat: FlatItems | None) -> np.ndarray:
        """Mark events of another partition, and such as no table takes.

        Shape: one bool per event.
        """
        times = milliseconds_of(events["event_time"])
        partition = batch.partition[events["row"].to_numpy()]
        foreign: np.ndarray = (
            (events["source_partition"].to_numpy() != partition)
            | (times < OLDEST_MS)
            | (times > NEWEST_MS)
            | events["has_nul"].to_numpy()
        )
        # one query answers for the usual batch
        suspicious, longest = events.select(*self._suspicions).row(0)
        if suspicious:
            lacking = events.select(pl.any_horizontal(self._without_key).fill_null(False))
            foreign |= lacking.to_series().to_numpy()
        if (longest or 0) > MOST_KEY_BYTES:
            own = events.select(pl.sum_horizontal(self._lengths) > MOST_KEY_BYTES)
            foreign |= own.to_series().to_numpy()
        if self._items is not None and flat is not None:
            foreign |= self._strange_items(events, self._items, flat)
        return foreign

    def _strange_items(self, events: pl.DataFrame, items: Items, flat: FlatItems) -> np.ndarray:
        """Mark events with an item whose texts are too long for a key, or whose sums overflow."""
        strange = np.zeros(len(events), bool)
        if not len(flat.frame):
            return strange
        numbers = [n for n, kind in items.columns.items() if kind.is_integer()]
        lengths = [pl.col(name).str.len_bytes() for name in items.texts]
        bounds = flat.frame.select(
            # a product of all numbers is no less than any sum that a metric makes of an item
            *(pl.col(n).cast(pl.Float64).abs().max().alias(n) for n in numbers),
            pl.sum_horizontal(length.max() for length in lengths).alias("texts"),
        ).row(0, named=True)
        most = int(flat.counts.max())
        if np.prod([max(bounds[n], 1.0) for n in numbers]) * most > MOST_SUM:
            sums = flat.frame.with_columns(pl.col(numbers).cast(pl.Float64)).select(
                pl.max_horizontal(value.abs() for value in items.metric_sums.values())
            )
            totals = np.bincount(flat.owner, sums.to_series().to_numpy(), len(events))
            strange |= totals > MOST_SUM
        if (bounds["texts"] or 0) > MOST_KEY_BYTES:
            rows = flat.frame.select(pl.sum_horizontal(lengths) > MOST_KEY_BYTES)
            strange[flat.owner[rows.to_series().to_numpy()]] = True
        return strange
