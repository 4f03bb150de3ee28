"""The open windows of one metric: keys to slots, slots to numbers, a batch at a time."""

from __future__ import annotations

from typing import Any

import hirola
import numpy as np
import polars as pl

from flows.domain.ids import KEY
from flows.domain.metrics import MetricTable
from flows.domain.rules import ALWAYS

OTHER = "(other)"
MIN_CAPACITY = 1 << 12


def keys_of(frame: pl.DataFrame) -> np.ndarray:
    """128 bits a row, by all columns: two independent 64-bit hashes."""
    return np.stack((frame.hash_rows(seed=0x5EED).to_numpy(), frame.hash_rows(seed=0xFACE).to_numpy()), axis=1)


class Pairs:
    """Different (row, value) pairs. State: 16 bytes and an index entry a pair, until the windows close."""

    def __init__(self) -> None:
        self._seen = hirola.HashTable(MIN_CAPACITY, KEY)

    def first_time(self, keys: np.ndarray) -> np.ndarray:
        """Which rows hold a pair that was not seen before; keys must differ within the call."""
        if len(self._seen) + len(keys) > self._seen.max * 3 // 4:
            self._seen = self._seen.resize(max(self._seen.max * 2, (len(self._seen) + len(keys)) * 2))
        known = len(self._seen)
        return self._seen.add(keys) >= known


class Windows:
    """Sum a metric over its open windows.

    Shape: rows are keyed by window_start, partition and the metric's dimensions; numbers are absolute.
    State: a slot a row, freed when the window's partition is past the window's end and the lateness.
    """

    def __init__(self, metric: MetricTable, cap: int) -> None:
        self._metric = metric
        self._cap = cap
        self._capped = next((d.name for d in metric.by if d.cap), None)
        self._kept: dict[tuple[Any, ...], set[str]] = {}
        self._names = ["window_start", "partition", *(d.name for d in metric.by)]
        self._sums = [m.name for m in metric.stored if m.value is not None]
        self._distinct = next(((m.name, m.distinct) for m in metric.stored if m.distinct), None)
        self._pairs: dict[int, Pairs] = {}
        every = f"{int(metric.window.total_seconds() * 1000)}ms"
        # built once: building an expression costs as much as evaluating it over a small batch
        self._columns = [
            pl.col("event_time").dt.truncate(every).alias("window_start"), pl.col("partition"), pl.col("spoken"),
            *(d.value.alias(d.name) for d in metric.by),
            *(m.value.cast(pl.Int64).alias(f"{m.name} ") for m in metric.stored if m.value is not None),
            *([pl.col(self._distinct[1]).alias("distinct ")] if self._distinct else []),
        ]  # fmt: skip
        self._aggregates = [
            pl.len().cast(pl.Int64).alias("events "),
            *(pl.col(f"{name} ").sum() for name in self._sums if name != "events"),
            pl.col("spoken").any(),
        ]
        self._reset(MIN_CAPACITY)

    def _reset(self, capacity: int) -> None:
        self._slots = hirola.HashTable(capacity, KEY)
        self._rows: list[pl.DataFrame] = []
        self._numbers = np.zeros((capacity, 1 + len(self._metric.stored)), np.int64)
        self._changed = np.zeros(capacity, bool)

    def add(self, events: pl.DataFrame) -> None:
        """Add a batch of events or items. Shape: needs `partition`, `spoken`, `event_time` and what the metric reads."""
        metric = self._metric
        chosen = (
            events.select(self._columns)
            if metric.where is ALWAYS
            else events.filter(metric.where).select(self._columns)
        )
        if not len(chosen):
            return
        if self._capped:
            chosen = self._fold(chosen)
        groups = chosen.group_by(self._names, maintain_order=True).agg(self._aggregates)
        slots = self._slots_of(groups)
        self._numbers[slots, 0] += groups["events "].to_numpy()
        for i, measure in enumerate(metric.stored, start=1):
            if measure.value is not None:
                self._numbers[slots, i] += groups[f"{measure.name} "].to_numpy()
            else:
                self._count_distinct(chosen, i)
        self._changed[slots] |= groups["spoken"].to_numpy()

    def _slots_of(self, groups: pl.DataFrame) -> np.ndarray:
        capacity = len(self._numbers)
        if len(self._slots) + len(groups) > capacity * 3 // 4:
            while len(self._slots) + len(groups) > capacity // 2:
                capacity *= 2
            self._slots = self._slots.resize(capacity)
            self._numbers = np.pad(self._numbers, ((0, capacity - len(self._numbers)), (0, 0)))
            self._changed = np.pad(self._changed, (0, capacity - len(self._changed)))
        known = len(self._slots)
        slots = self._slots.add(keys_of(groups.select(self._names)))
        fresh = slots >= known
        if fresh.any():
            self._rows.append(groups.select(self._names).filter(pl.Series(fresh)))
        return slots

    def _count_distinct(self, chosen: pl.DataFrame, column: int) -> None:
        """Count values that were not seen before in their row; pairs of a window are forgotten with it."""
        pairs = chosen.select(*self._names, "distinct ").unique()
        for (start,), part in pairs.partition_by("window_start", as_dict=True).items():
            seen = self._pairs.setdefault(int(start.timestamp() * 1000), Pairs())
            fresh = part.filter(pl.Series(seen.first_time(keys_of(part))))
            counts = fresh.group_by(self._names).agg(pl.len().cast(pl.Int64))
            if len(counts):
                slots = self._slots_of(counts)  # before the numbers are named: it may move them
                self._numbers[slots, column] += counts["len"].to_numpy()

    def _fold(self, chosen: pl.DataFrame) -> pl.DataFrame:
        """Past the cap of different values of a window, shop and partition the newcomers are `(other)`.

        The first ones in offset order stay, so the same log gives the same rows.
        """
        capped = self._capped
        assert capped is not None
        within = [n for n in self._names if n != capped]
        other: list[tuple[object, ...]] = []
        for row in chosen.select(self._names).unique(maintain_order=True).iter_rows(named=True):
            kept = self._kept.setdefault(tuple(row[n] for n in within), set())
            if row[capped] in kept:
                continue
            if len(kept) < self._cap:
                kept.add(row[capped])
            else:
                other.append(tuple(row[n] for n in self._names))
        if not other:
            return chosen
        schema = chosen.select(self._names).schema
        folded = pl.DataFrame(other, schema=schema, orient="row").with_columns(pl.lit(True).alias("folded "))
        joined = chosen.join(folded, on=self._names, how="left", maintain_order="left")
        return joined.with_columns(
            pl.when(pl.col("folded ")).then(pl.lit(OTHER)).otherwise(pl.col(capped)).alias(capped)
        ).drop("folded ")

    def take(self) -> pl.DataFrame:
        """The rows that changed since the last call. Shape: keys, `events` (the guard), then the stored measures."""
        slots = np.flatnonzero(self._changed[: len(self._slots)])
        self._changed[slots] = False
        rows = self._all_rows()[slots] if len(slots) else self._all_rows().clear()
        numbers = self._numbers[slots]
        columns = [pl.Series("events", numbers[:, 0])] + [
            pl.Series(m.name, numbers[:, i]) for i, m in enumerate(self._metric.stored, start=1) if m.name != "events"
        ]
        return rows.with_columns(columns)

    def _all_rows(self) -> pl.DataFrame:
        if not self._rows:
            kinds: dict[str, Any] = {"window_start": pl.Datetime("ms", "UTC"), "partition": pl.Int32}
            return pl.DataFrame(schema={n: kinds.get(n, pl.String) for n in self._names})
        if len(self._rows) > 1:
            self._rows = [pl.concat(self._rows)]
        return self._rows[0]

    def forget(self, closed: dict[int, int]) -> None:
        """Free the windows that start at or before `closed[partition]` (ms); call it after `take`."""
        if not closed:
            return
        rows = self._all_rows()
        if not len(rows):
            return
        limit = rows["partition"].replace_strict(closed, default=None, return_dtype=pl.Int64)
        live = (rows["window_start"].dt.epoch("ms") > limit).fill_null(True).to_numpy()
        if live.sum() * 2 > len(rows):
            return  # not worth it yet
        numbers, kept = self._numbers[: len(rows)][live], rows.filter(pl.Series(live))
        capacity = MIN_CAPACITY
        while len(kept) > capacity // 2:
            capacity *= 2
        self._reset(capacity)
        if len(kept):
            self._numbers[self._slots.add(keys_of(kept))] = numbers
            self._rows = [kept]
        starts = set(kept["window_start"].dt.epoch("ms").to_list())
        self._pairs = {s: pairs for s, pairs in self._pairs.items() if s in starts}
        self._kept = {key: kept for key, kept in self._kept.items() if int(key[0].timestamp() * 1000) in starts}
