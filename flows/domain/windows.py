"""The open windows of one metric: keys to slots, slots to numbers, a batch at a time."""

from __future__ import annotations

from typing import Any

import hirola
import numpy as np
import polars as pl

from flows.domain.hashing import KEY, keys_of_pairs, keys_of_rows
from flows.domain.metrics import MetricTable
from flows.domain.packed import Answers
from flows.domain.rules import ALWAYS
from flows.domain.tables import Rows, gold_of

OTHER = "(other)"
MIN_CAPACITY = 1 << 12
# New rows are frames of their own until there are so many: joining them copies all rows, and
# picking rows out of them costs per frame.
MOST_PARTS = 16


def starts_of(metric: MetricTable) -> str:
    """Name the column that has the starts of the metric's windows."""
    return f"start {metric.window.total_seconds():g} s"


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Copy a frame, with texts of its own.

    A row that is taken out of a batch would keep all texts of the batch in memory.
    """
    # One chunk first: the others would be handed on as they are, with all that they hold on to.
    copied = pl.from_arrow(frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return copied


class Pairs:
    """Different (row, value) pairs.

    State: 16 bytes and an index entry per pair, until the windows close.
    """

    def __init__(self) -> None:
        self._seen = hirola.HashTable(MIN_CAPACITY, KEY)

    def first_time(self, keys: np.ndarray) -> np.ndarray:
        """Give the indices of the rows that hold a pair for the first time."""
        if len(self._seen) + len(keys) > self._seen.max * 3 // 4:
            self._seen = self._seen.resize(
                max(self._seen.max * 2, (len(self._seen) + len(keys)) * 2)
            )
        known = len(self._seen)
        return first_rows_of(self._seen.add(keys), known)


def first_rows_of(slots: np.ndarray, known: int) -> np.ndarray:
    """Give the first row of each new slot, one not below `known`, in the order of the slots."""
    new = np.flatnonzero(slots >= known)
    rows: np.ndarray = new[np.unique(slots[new], return_index=True)[1]]
    return rows


class Windows:
    """Sum a metric over its open windows.

    Shape: rows are keyed by window_start, partition and the metric's dimensions; numbers are
    absolute, so writing a row again is harmless.
    State: one slot per row, freed when the window's partition is past the window's end and the
    lateness.
    """

    # A row has one slot everywhere. Its key is in `_slots`, its texts are in `_rows` and then
    # `_fresh` (frames, in slot order), its numbers in the column `slot` of `_numbers`: line 0
    # counts the events that the row stands for, line i has the i-th stored measure.

    def __init__(self, metric: MetricTable, cap: int) -> None:
        self._metric = metric
        self._table = gold_of(metric)
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
        # by window start: so a window's pairs go with it, without a search among all others
        self._pairs: dict[int, Pairs] = {}
        # All metrics of a scope are one `select`: the call costs more than a small batch's answers.
        # So every column bears the name of its metric.
        self.questions = {
            self._own("where"): metric.where,
            self._own("window_start"): pl.col(starts_of(metric)),
            self._own("partition"): pl.col("partition"),
            **{self._own(d.name): d.value for d in metric.by},
            **{
                self._own(m.name, "sum"): m.value.cast(pl.Int64).fill_null(0)
                for m in metric.stored
                if m.value is not None
            },
        }
        if self._distinct:
            self.questions[self._own("distinct")] = pl.col(self._distinct[1])
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

    def add(self, answers: Answers) -> None:
        """Add a batch of events or items."""
        self.add_frame(answers.frame)

    def add_frame(self, answers: pl.DataFrame) -> None:
        """Add a batch of events or items.

        Shape: one row per event or item, with the answers to `questions`, and `is_new`.
        """
        chosen, is_new = answers[self._keys + self._rest], answers["is_new"].to_numpy()
        if self._metric.where is not ALWAYS:
            rows = np.flatnonzero(answers[self._own("where")].fill_null(False).to_numpy())
            chosen, is_new = chosen[rows], is_new[rows]
        if not len(chosen):
            return
        names = chosen[self._keys]
        names.columns = self._names
        keys = keys_of_rows(names)
        if self._capped and (others := self._beyond_cap(names, keys)):
            values = names[self._capped].to_list()
            for row in others:
                values[row] = OTHER
            names = names.with_columns(pl.Series(self._capped, values, pl.String))
            keys = keys_of_rows(names)  # they may share a row now
        slots = self._slots_of(names, keys)
        # `add.at`, not `numbers[slots] += 1`: a slot that stands twice in the batch counts twice.
        # Three sales of 10, 20 and 5 in slots 4, 7, 4 make the numbers 15 and 20.
        np.add.at(self._numbers[0], slots, 1)
        for i, name in self._sums.items():
            np.add.at(self._numbers[i], slots, chosen[name].to_numpy())
        if self._distinct:
            self._count_distinct(names["window_start"], chosen[self._rest[:1]], keys, slots)
        # Every event counts, but one that is read again to rebuild the state changes no row: what
        # it counts is in the table already.
        self._changed[slots[is_new]] = True

    def _slots_of(self, names: pl.DataFrame, keys: np.ndarray) -> np.ndarray:
        capacity = self._numbers.shape[1]
        if len(self._slots) + len(keys) > capacity * 3 // 4:
            while len(self._slots) + len(keys) > capacity // 2:
                capacity *= 2
            more = capacity - self._numbers.shape[1]
            # a resize keeps the order of the keys, so every row keeps its slot
            self._slots = self._slots.resize(capacity)
            self._numbers = np.pad(self._numbers, ((0, 0), (0, more)))
            self._changed = np.pad(self._changed, (0, more))
        known = len(self._slots)
        slots: np.ndarray = self._slots.add(keys)
        if len(self._slots) > known:
            self._fresh.append(names[first_rows_of(slots, known)])
        return slots

    def _count_distinct(
        self, starts: pl.Series, values: pl.DataFrame, keys: np.ndarray, slots: np.ndarray
    ) -> None:
        assert self._distinct is not None
        pairs = keys_of_pairs(keys, values)
        start_of_row = starts.to_physical().to_numpy()
        for start in np.unique(start_of_row).tolist():
            rows = np.flatnonzero(start_of_row == start)
            firsts = self._pairs.setdefault(start, Pairs()).first_time(pairs[rows])
            np.add.at(self._numbers[self._distinct[0]], slots[rows[firsts]], 1)

    def _beyond_cap(self, names: pl.DataFrame, keys: np.ndarray) -> list[int]:
        """Give the rows past the cap of different values per window, shop and partition.

        The first ones in offset order stay, so the same log gives the same rows.
        """
        assert self._capped is not None
        # A key that has a slot is within the cap, so only the others need a look, one by one.
        unknown = np.flatnonzero(self._slots.get(keys) < 0)
        others: list[int] = []
        capped = self._names.index(self._capped)
        for index, row in zip(unknown.tolist(), names[unknown].iter_rows(), strict=True):
            kept = self._kept.setdefault(row[:capped] + row[capped + 1 :], set())
            if row[capped] in kept:
                continue  # twice in this batch
            if len(kept) < self._cap:
                kept.add(row[capped])
            else:
                others.append(index)
        return others

    def take(self) -> Rows:
        """Give the rows that changed since the last call."""
        slots = np.flatnonzero(self._changed[: len(self._slots)])
        self._changed[slots] = False
        rows = self._all_rows()[slots] if len(slots) else self._all_rows().clear()
        numbers = self._numbers[:, slots]
        columns = [pl.Series("events", numbers[0])] + [
            pl.Series(m.name, numbers[i])
            for i, m in enumerate(self._metric.stored, start=1)
            if m.name != "events"
        ]
        # `with_columns` would cost four times as much: it makes a query
        return Rows(self._table, rows.hstack(columns), distinct=True)

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
        """Free the windows that start at or before `closed[partition]` (ms).

        Call it after `take`: what a freed row has changed is lost.
        """
        if not closed:
            return
        rows = self._all_rows()
        if not len(rows):
            return
        limit = rows["partition"].replace_strict(closed, default=None, return_dtype=pl.Int64)
        # a partition without a limit keeps everything
        is_live = (rows["window_start"].dt.epoch("ms") > limit).fill_null(True)
        live = is_live.to_numpy()
        starts = set(rows["window_start"].filter(is_live).dt.epoch("ms").to_list())
        # Partitions share them by the start: they stay while any partition has the window open.
        self._pairs = {start: pairs for start, pairs in self._pairs.items() if start in starts}
        self._kept = {
            key: kept
            for key, kept in self._kept.items()
            if int(key[0].timestamp() * 1000) in starts
        }
        if live.sum() * 2 > len(rows):
            return  # the copy below is paid by the live rows: wait until it frees as many
        numbers, live_rows = self._numbers[:, : len(rows)][:, live], rows.filter(is_live)
        capacity = MIN_CAPACITY
        while len(live_rows) > capacity // 2:
            capacity *= 2
        self._reset(capacity)
        if len(live_rows):
            self._numbers[:, self._slots.add(keys_of_rows(live_rows))] = numbers
            self._rows = [compact(live_rows)]
