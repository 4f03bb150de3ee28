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
MOST_PARTS = 16
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


def keys_of(frame: pl.DataFrame) -> np.ndarray:
    """128 bits a row, by all columns: two independent 64-bit hashes."""
    return np.stack(
        (frame.hash_rows(seed=0x5EED).to_numpy(), frame.hash_rows(seed=0xFACE).to_numpy()), axis=1
    )


def starts_of(metric: MetricTable) -> str:
    """The column with the starts of the metric's windows."""
    return f"start {metric.window.total_seconds():g} s"


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """A copy with texts of its own: a row taken out of a batch would keep all texts of the batch in
    memory.
    """
    # one chunk first: the others would be handed on as they are, with all that they hold on to
    copied = pl.from_arrow(frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return copied


class Pairs:
    """Different (row, value) pairs. State: 16 bytes and an index entry a pair, until the windows
    close.
    """

    def __init__(self) -> None:
        self._seen = hirola.HashTable(MIN_CAPACITY, KEY)

    def first_time(self, keys: np.ndarray) -> np.ndarray:
        """Indices of the rows that hold a pair for the first time."""
        if len(self._seen) + len(keys) > self._seen.max * 3 // 4:
            self._seen = self._seen.resize(
                max(self._seen.max * 2, (len(self._seen) + len(keys)) * 2)
            )
        known = len(self._seen)
        return firsts_of(self._seen.add(keys), known)


def firsts_of(slots: np.ndarray, known: int) -> np.ndarray:
    """Where each slot that is new, not below `known`, stands first; in the order of the slots."""
    fresh = np.flatnonzero(slots >= known)
    return fresh[np.unique(slots[fresh], return_index=True)[1]]


class Windows:
    """Sum a metric over its open windows.

    Shape: rows are keyed by window_start, partition and the metric's dimensions; numbers are
    absolute.
    State: a slot a row, freed when the window's partition is past the window's end and the
    lateness.
    """

    def __init__(self, metric: MetricTable, cap: int) -> None:
        self._metric = metric
        self._cap = cap
        self._capped = next((d.name for d in metric.by if d.cap), None)
        self._kept: dict[tuple[Any, ...], set[str]] = {}
        self._names = ["window_start", "partition", *(d.name for d in metric.by)]
        self._sums = {
            i: self._own(m.name, "sum")
            for i, m in enumerate(metric.stored, 1)
            if m.value is not None
        }
        self._distinct = next(
            ((i, m.distinct) for i, m in enumerate(metric.stored, 1) if m.distinct), None
        )
        self._pairs: dict[int, Pairs] = {}
        # one question for all metrics of a scope: asking Polars costs more than a small batch's
        # answers
        self.questions = [
            metric.where.alias(self._own("where")),
            pl.col(starts_of(metric)).alias(self._own("window_start")),
            pl.col("partition").alias(self._own("partition")),
            *(d.value.alias(self._own(d.name)) for d in metric.by),
            *(
                m.value.cast(pl.Int64).alias(self._own(m.name, "sum"))
                for m in metric.stored
                if m.value is not None
            ),
            *([pl.col(self._distinct[1]).alias(self._own("distinct"))] if self._distinct else []),
        ]
        self._keys = [self._own(name) for name in self._names]
        self._rest = [self._own("distinct")] * bool(self._distinct) + list(self._sums.values())
        self._reset(MIN_CAPACITY)

    def _reset(self, capacity: int) -> None:
        self._slots = hirola.HashTable(capacity, KEY)
        self._rows: list[pl.DataFrame] = []
        self._fresh: list[pl.DataFrame] = []
        self._numbers = np.zeros((1 + len(self._metric.stored), capacity), np.int64)
        self._changed = np.zeros(capacity, bool)

    def __len__(self) -> int:
        return len(self._slots)

    def _own(self, *name: str) -> str:
        return ".".join((self._metric.name, *name))

    def add(self, answers: pl.DataFrame) -> None:
        """Add a batch of events or items. Shape: the answers to `questions`, and `is_new`."""
        chosen, is_new = answers[self._keys + self._rest], answers["is_new"].to_numpy()
        if self._metric.where is not ALWAYS:
            rows = np.flatnonzero(answers[self._own("where")].fill_null(False).to_numpy())
            chosen, is_new = chosen[rows], is_new[rows]
        if not len(chosen):
            return
        names = chosen[self._keys]
        names.columns = self._names
        keys = keys_of(names)
        if self._capped and (others := self._beyond_cap(names, keys)):
            values = names[self._capped].to_list()
            for row in others:
                values[row] = OTHER
            names = names.with_columns(pl.Series(self._capped, values, pl.String))
            keys = keys_of(names)
        slots = self._slots_of(names, keys)
        np.add.at(self._numbers[0], slots, 1)
        for i, name in self._sums.items():
            np.add.at(self._numbers[i], slots, chosen[name].to_numpy())
        if self._distinct:
            self._count_distinct(names["window_start"], chosen[self._rest[:1]], keys, slots)
        self._changed[slots[is_new]] = True

    def _slots_of(self, names: pl.DataFrame, keys: np.ndarray) -> np.ndarray:
        capacity = self._numbers.shape[1]
        if len(self._slots) + len(keys) > capacity * 3 // 4:
            while len(self._slots) + len(keys) > capacity // 2:
                capacity *= 2
            more = capacity - self._numbers.shape[1]
            self._slots = self._slots.resize(capacity)
            self._numbers = np.pad(self._numbers, ((0, 0), (0, more)))
            self._changed = np.pad(self._changed, (0, more))
        known = len(self._slots)
        slots = self._slots.add(keys)
        if len(self._slots) > known:
            self._fresh.append(names[firsts_of(slots, known)])
        return slots

    def _count_distinct(
        self, starts: pl.Series, values: pl.DataFrame, keys: np.ndarray, slots: np.ndarray
    ) -> None:
        """Count values that were not seen before in their row; pairs of a window are forgotten with
        it.
        """
        assert self._distinct is not None
        pairs = keys * MIX ^ keys_of(values)
        start_of = starts.to_physical().to_numpy()
        for start in np.unique(start_of).tolist():
            here = np.flatnonzero(start_of == start)
            fresh = self._pairs.setdefault(start, Pairs()).first_time(pairs[here])
            np.add.at(self._numbers[self._distinct[0]], slots[here[fresh]], 1)

    def _beyond_cap(self, names: pl.DataFrame, keys: np.ndarray) -> list[int]:
        """The rows past the cap of different values of a window, shop and partition.

        The first ones in offset order stay, so the same log gives the same rows.
        """
        assert self._capped is not None
        unknown, others = np.flatnonzero(self._slots.get(keys) < 0), []
        at = self._names.index(self._capped)
        for index, row in zip(unknown.tolist(), names[unknown].iter_rows(), strict=True):
            kept = self._kept.setdefault(row[:at] + row[at + 1 :], set())
            if row[at] in kept:
                continue
            if len(kept) < self._cap:
                kept.add(row[at])
            else:
                others.append(index)
        return others

    def take(self) -> pl.DataFrame:
        """The rows that changed since the last call. Shape: keys, `events` (the guard), then the
        stored measures.
        """
        slots = np.flatnonzero(self._changed[: len(self._slots)])
        self._changed[slots] = False
        rows = self._all_rows()[slots] if len(slots) else self._all_rows().clear()
        numbers = self._numbers[:, slots]
        columns = [pl.Series("events", numbers[0])] + [
            pl.Series(m.name, numbers[i])
            for i, m in enumerate(self._metric.stored, start=1)
            if m.name != "events"
        ]
        return rows.with_columns(columns)

    def _all_rows(self) -> pl.DataFrame:
        if self._fresh:
            self._rows.append(compact(pl.concat(self._fresh)))
            self._fresh = []
        if len(self._rows) > MOST_PARTS:
            self._rows = [compact(pl.concat(self._rows))]
        if self._rows:
            return pl.concat(self._rows)
        kinds: dict[str, Any] = {"window_start": pl.Datetime("ms", "UTC"), "partition": pl.Int32}
        return pl.DataFrame(schema={n: kinds.get(n, pl.String) for n in self._names})

    def forget(self, closed: dict[int, int]) -> None:
        """Free the windows that start at or before `closed[partition]` (ms); call it after `take`."""
        if not closed:
            return
        rows = self._all_rows()
        if not len(rows):
            return
        limit = rows["partition"].replace_strict(closed, default=None, return_dtype=pl.Int64)
        live = (rows["window_start"].dt.epoch("ms") > limit).fill_null(True).to_numpy()
        starts = set(rows["window_start"].filter(pl.Series(live)).dt.epoch("ms").to_list())
        self._pairs = {s: pairs for s, pairs in self._pairs.items() if s in starts}
        self._kept = {
            key: kept
            for key, kept in self._kept.items()
            if int(key[0].timestamp() * 1000) in starts
        }
        if live.sum() * 2 > len(rows):
            return  # not worth it yet
        numbers, kept = self._numbers[:, : len(rows)][:, live], rows.filter(pl.Series(live))
        capacity = MIN_CAPACITY
        while len(kept) > capacity // 2:
            capacity *= 2
        self._reset(capacity)
        if len(kept):
            self._numbers[:, self._slots.add(keys_of(kept))] = numbers
            self._rows = [compact(kept)]
