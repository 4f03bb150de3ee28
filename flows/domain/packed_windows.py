"""The open windows of one metric by kernels: the same numbers as `Windows`, in a fifth of the time.

texts of a column ── hash_texts ──┐
start, partition ── begin_keys ───┴─ extend_keys ─> keys ── SlotTable ─> slots
slots + values ── add_to_rows ─> numbers[line, slot], changed[slot]
texts of new slots ── pack_texts ─> packed[ends[slot]:ends[slot + 1]], ready for COPY
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from flows.domain.kernels.hashing import begin_keys, extend_keys
from flows.domain.kernels.packing import move_rows
from flows.domain.kernels.slots import MIN_CAPACITY, SlotTable
from flows.domain.kernels.sums import add_to_rows
from flows.domain.metrics import Dimension, MetricTable
from flows.domain.packed import Answers, PackedRows, Texts, packed
from flows.domain.rules import ALWAYS
from flows.domain.tables import gold_of
from flows.domain.windows import OTHER, starts_of


class PackedWindows:
    """Sum a metric over its open windows.

    Shape and state: as of `Windows`. The numbers of slot s are the column s of `_numbers`: line 0
    counts the events that the row stands for, line i has the i-th stored measure.
    """

    def __init__(self, metric: MetricTable, cap: int) -> None:
        self._metric = metric
        self._table = gold_of(metric)
        self._cap = cap
        self._kept: dict[tuple[Any, ...], set[bytes]] = {}
        self._where = None if metric.where is ALWAYS else f"{metric.name} where"
        self._columns = [self._column_of(d) for d in metric.by]
        self._capped = next((i for i, d in enumerate(metric.by) if d.cap), None)
        summed = [(i, m) for i, m in enumerate(metric.stored, 1) if m.value is not None]
        self._sums = [f"{metric.name}.{m.name}" for _, m in summed]
        self._lines = np.array([i for i, _ in summed], np.int64)
        self._distinct = next(
            ((i, m.distinct) for i, m in enumerate(metric.stored, 1) if m.distinct), None
        )
        # what of `_numbers` a row has, as its table's columns are ordered
        self._stored = [0, *(i for i, m in enumerate(metric.stored, 1) if m.name != "events")]
        self.questions = {
            starts_of(metric): pl.col(starts_of(metric)),
            "partition": pl.col("partition"),
            **{c: d.value for c, d in zip(self._columns, metric.by, strict=True)},
            **{
                name: m.value.cast(pl.Int64).fill_null(0)
                for name, (_, m) in zip(self._sums, summed, strict=True)
                if m.value is not None
            },
        }
        if self._where is not None:
            self.questions[self._where] = metric.where.fill_null(False)
        if self._distinct is not None:
            self.questions[self._distinct[1]] = pl.col(self._distinct[1])
        # by window start: so a window's pairs go with it, without a search among all others
        self._pairs: dict[int, SlotTable] = {}
        self._reset(MIN_CAPACITY)

    def _column_of(self, dimension: Dimension) -> str:
        """Name the column of a dimension; metrics share those that are plain columns."""
        plain = dimension.value.meta.eq(pl.col(dimension.name))
        return dimension.name if plain else f"{self._metric.name} by {dimension.name}"

    def _reset(self, capacity: int) -> None:
        self._slots = SlotTable(capacity)
        self._numbers = np.zeros((1 + len(self._metric.stored), capacity), np.int64)
        self._changed = np.zeros(capacity, bool)
        self._starts = np.zeros(capacity, np.int64)
        self._partitions = np.zeros(capacity, np.int32)
        self._ends = np.zeros(capacity + 1, np.int64)
        self._packed = np.empty(capacity * 32, np.uint8)

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, answers: Answers) -> None:
        """Add a batch of events or items."""
        rows = None
        if self._where is not None:
            rows = np.flatnonzero(answers.numbers(self._where))
            if not len(rows):
                return

        def chosen(values: np.ndarray) -> np.ndarray:
            return values if rows is None else values[rows]

        starts = chosen(answers.numbers(starts_of(self._metric)))
        partitions = chosen(answers.numbers("partition"))
        if not len(starts):
            return
        texts = [answers.texts(column) for column in self._columns]
        keys = np.empty((len(starts), 2), np.uint64)
        begin_keys(starts, partitions, keys)
        for column in texts:
            extend_keys(keys, chosen(column.hashes))
        every = np.arange(len(answers.frame)) if rows is None else rows
        if self._capped is not None:
            texts, keys = self._within_cap(starts, partitions, texts, every, keys)
        self._make_room(len(keys))
        known = len(self._slots)
        slots = self._slots.add(keys)
        if len(self._slots) > known:
            fresh = self._slots.fresh(slots, known)
            self._begin_rows(known, starts[fresh], partitions[fresh], packed(texts, every[fresh]))
        values = np.empty((len(self._sums), len(keys)), np.int64)
        for line, name in enumerate(self._sums):
            values[line] = chosen(answers.numbers(name))
        # Every event counts, but one that is read again to rebuild the state changes no row: what
        # it counts is in the table already.
        is_new = chosen(answers.numbers("is_new"))
        add_to_rows((slots, is_new, values), self._lines, self._numbers, self._changed)
        if self._distinct is not None:
            line, name = self._distinct
            self._count_distinct(line, starts, chosen(answers.texts(name).hashes), keys, slots)

    def _make_room(self, count: int) -> None:
        capacity = self._slots.max
        if len(self._slots) + count <= capacity:
            return
        while len(self._slots) + count > capacity:
            capacity *= 2
        more = capacity - self._slots.max
        # a resize keeps the order of the keys, so every row keeps its slot
        self._slots = self._slots.resize(capacity)
        self._numbers = np.pad(self._numbers, ((0, 0), (0, more)))
        self._changed = np.pad(self._changed, (0, more))
        self._starts = np.pad(self._starts, (0, more))
        self._partitions = np.pad(self._partitions, (0, more))
        self._ends = np.pad(self._ends, (0, more))

    def _begin_rows(
        self,
        known: int,
        starts: np.ndarray,
        partitions: np.ndarray,
        texts: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Take note of what new slots, those from `known` on, stand for."""
        data, ends = texts
        slots = slice(known, known + len(starts))
        self._starts[slots], self._partitions[slots] = starts, partitions
        begin = int(self._ends[known])
        if begin + len(data) > len(self._packed):
            self._packed = np.concatenate(
                (self._packed[:begin], np.empty(begin + 2 * len(data), np.uint8))
            )
        self._packed[begin : begin + len(data)] = data
        self._ends[known + 1 : known + len(starts) + 1] = begin + ends

    def _count_distinct(
        self,
        line: int,
        starts: np.ndarray,
        values: np.ndarray,
        keys: np.ndarray,
        slots: np.ndarray,
    ) -> None:
        pairs = keys.copy()
        extend_keys(pairs, values)
        for start in np.unique(starts).tolist():
            rows = np.flatnonzero(starts == start)
            table = self._pairs.setdefault(start, SlotTable())
            if len(table) + len(rows) > table.max:
                table = self._pairs[start] = table.resize((len(table) + len(rows)) * 2)
            known = len(table)
            firsts = table.fresh(table.add(pairs[rows]), known)
            np.add.at(self._numbers[line], slots[rows[firsts]], 1)

    def _within_cap(
        self,
        starts: np.ndarray,
        partitions: np.ndarray,
        texts: list[Texts],
        rows: np.ndarray,
        keys: np.ndarray,
    ) -> tuple[list[Texts], np.ndarray]:
        """Replace what is past the cap of different values per window, shop and partition.

        The first ones in offset order stay, so the same log gives the same rows.
        """
        assert self._capped is not None
        # A key that has a slot is within the cap, so only the others need a look, one by one.
        others = []
        unknown = np.flatnonzero(self._slots.get(keys) < 0)
        for i in unknown.tolist():
            cells = [_bytes_of(column, rows[i]) for column in texts]
            value = cells.pop(self._capped)
            kept = self._kept.setdefault((int(starts[i]), int(partitions[i]), *cells), set())
            if value in kept:
                continue  # twice in this batch
            if len(kept) < self._cap:
                kept.add(value)
            else:
                others.append(i)
        if not others:
            return texts, keys
        values = texts[self._capped].series.to_list()
        for i in others:
            values[rows[i]] = OTHER
        changed = [*texts]
        changed[self._capped] = Texts(pl.Series(values, dtype=pl.String))
        keys = np.empty((len(starts), 2), np.uint64)
        begin_keys(starts, partitions, keys)
        for column in changed:
            extend_keys(keys, column.hashes[rows])  # they may share a row now
        return changed, keys

    def take(self) -> PackedRows:
        """Give the rows that changed since the last call."""
        slots = np.flatnonzero(self._changed[: len(self._slots)])
        self._changed[slots] = False
        # two writers that lock rows in the same order cannot deadlock
        slots = slots[np.argsort(self._slots.keys[slots, 0])]
        texts, ends = self._texts_of(slots)
        return PackedRows(
            self._table,
            self._starts[slots],
            self._partitions[slots],
            texts,
            ends,
            self._numbers[self._stored][:, slots],
        )

    def _texts_of(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copy the packed texts of slots, and give where each begins and the last one ends."""
        ends = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(self._ends[slots + 1] - self._ends[slots], out=ends[1:])
        texts = np.empty(int(ends[-1]), np.uint8)
        move_rows(self._packed, self._ends, slots, texts)
        return texts, ends

    def forget(self, closed: dict[int, int]) -> None:
        """Free the windows that start at or before `closed[partition]` (ms).

        Call it after `take`: what a freed row has changed is lost.
        """
        used = len(self._slots)
        if not closed or not used:
            return
        live = np.ones(used, bool)
        for partition, limit in closed.items():
            live &= (self._partitions[:used] != partition) | (self._starts[:used] > limit)
        starts = set(np.unique(self._starts[:used][live]).tolist())
        # Partitions share them by the start: they stay while any partition has the window open.
        self._pairs = {start: pairs for start, pairs in self._pairs.items() if start in starts}
        self._kept = {key: kept for key, kept in self._kept.items() if key[0] in starts}
        slots = np.flatnonzero(live)
        if len(slots) * 2 > used:
            return  # the copy below is paid by the live rows: wait until it frees as many
        keys, numbers = self._slots.keys[slots], self._numbers[:, slots]
        rows = self._starts[slots], self._partitions[slots]
        texts, ends = self._texts_of(slots)
        capacity = MIN_CAPACITY
        while len(slots) > capacity // 2:
            capacity *= 2
        self._reset(capacity)
        if len(slots):
            self._slots.add(keys)
            self._numbers[:, : len(slots)] = numbers
            self._begin_rows(0, *rows, (texts, ends[1:]))


def _bytes_of(column: Texts, row: int) -> bytes:
    return column.data[column.offsets[row] : column.offsets[row + 1]].tobytes()
