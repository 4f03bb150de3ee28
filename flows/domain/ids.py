"""Which event ids are known, for as long as they can matter: exact, bounded, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import hirola
import numpy as np

from flows.domain.hashing import KEY
from flows.domain.kernels.slots import SlotTable

NEVER = -(2**62)
"""A time before every horizon: that of a slot without an event."""

MIN_CAPACITY = 1 << 16


@dataclass(frozen=True)
class Identified:
    """Events with the key of their id, neither broken nor late.

    Shape: one row per event in all columns, in offset order within a partition.
    Time: event times in ms. A horizon is the partition's watermark before that event, less the
    lateness; it is above NEVER.
    """

    keys: np.ndarray
    payloads: np.ndarray
    times: np.ndarray
    horizons: np.ndarray
    partitions: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Verdicts:
    """Which events repeat a known id.

    Shape: one bool per event; an event is at most one of the two.
    """

    duplicate: np.ndarray
    conflict: np.ndarray


class KnownIds:
    """Tell new events from repeated ones.

    An id is known while its accepted event, or the newest conflict with it, is not older than the
    horizon (watermark - lateness). A conflict keeps the accepted event known, but for no longer
    than another lateness: else one id that comes again and again with new content would pin the
    offset that a restart must read from for ever
    (test_one_id_with_ever_new_content_pins_nothing_for_ever).

    A restart needs more than the verdicts do. It must give each conflict that can still matter the
    verdict that it had, so it must begin before the event that the conflict was with: while the
    newest conflict is within the horizon, even when that event is known no more, and another with
    its id was accepted since.

    Time: event time in ms. State: 80 bytes per id within the lateness; a Python set of hashes takes
    twice the time.
    """

    def __init__(self, lateness: int, kernels: bool = True) -> None:
        self._lateness = lateness
        self._table = SlotTable if kernels else partial(hirola.HashTable, dtype=KEY)
        self._reset(MIN_CAPACITY)

    def _reset(self, capacity: int) -> None:
        # The table numbers its keys in the order in which they came: these are the slots. So a slot
        # is new if it is not below the length before the `add`, and slots that follow each other
        # are a slice.
        self._slots = self._table(capacity)
        # Per slot: of the accepted event. A conflict raises `_newest`, until which it is known, up
        # to `_limit`; and `_last`, until which a restart needs it. `_older` and `_older_last` are
        # those of the event with this id before it, while a restart still needs that one.
        self._payload = np.zeros(capacity, np.uint64)
        self._newest = np.full(capacity, NEVER, np.int64)
        self._limit = np.full(capacity, NEVER, np.int64)
        self._last = np.full(capacity, NEVER, np.int64)
        self._offset = np.zeros(capacity, np.int64)
        self._older = np.zeros(capacity, np.int64)
        self._older_last = np.full(capacity, NEVER, np.int64)
        self._partition = np.zeros(capacity, np.int32)

    def __len__(self) -> int:
        return len(self._slots)

    def judge(self, events: Identified) -> Verdicts:
        """Judge a batch, and remember its new events."""
        count = len(events)
        self._make_room(events)
        known = len(self._slots)
        slots = self._slots.add(events.keys)
        duplicate, conflict = np.zeros(count, bool), np.zeros(count, bool)
        if len(self._slots) == known + count:
            # The usual batch: all ids are new and different, so their slots follow each other.
            self._accept(slice(known, known + count), events, slice(None))
            return Verdicts(duplicate, conflict)
        # Rows with a new id that no other row of the batch has depend on nothing, and are accepted
        # together. All others depend on what is known or on an earlier row, so they go one by one
        # in offset order; they are a few per cent of a usual log.
        alone = _alone(slots, known)
        self._accept(slots[alone], events, alone)
        for row in np.flatnonzero(~alone):
            slot = slots[row]
            # For example one id, with a lateness of 5 s, while other events move the watermark:
            #
            #   time  bytes  watermark  horizon  newest   verdict
            #    0 s  A         0 s      -5 s    NEVER    accepted, newest = 0 s
            #    4 s  B         0 s      -5 s    0 s      conflict, newest = 4 s
            #    4 s  B         8 s       3 s    4 s      conflict
            #    9 s  C        10 s       5 s    4 s      accepted: the id is not known any more
            #
            # If the conflict did not raise `newest`, the second B would be accepted. A restart that
            # rewinds to between A and the first B would accept that one, and call the second a
            # duplicate: two verdicts for one record.
            if self._newest[slot] < events.horizons[row]:
                self._older[slot], self._older_last[slot] = self._offset[slot], self._last[slot]
                self._accept(slot, events, row)
            elif self._payload[slot] == events.payloads[row]:
                # the same bytes have the same event time, so `newest` needs no raise
                duplicate[row] = True
            else:
                conflict[row] = True
                time = events.times[row]
                self._last[slot] = max(self._last[slot], time)
                self._newest[slot] = min(max(self._newest[slot], time), self._limit[slot])
        return Verdicts(duplicate, conflict)

    def _accept(
        self,
        slots: np.ndarray | slice | np.intp,
        events: Identified,
        rows: np.ndarray | slice | np.intp,
    ) -> None:
        self._payload[slots] = events.payloads[rows]
        self._newest[slots] = self._last[slots] = events.times[rows]
        self._limit[slots] = events.times[rows] + self._lateness
        self._offset[slots] = events.offsets[rows]
        self._partition[slots] = events.partitions[rows]

    def oldest(self, partition: int, horizon: int) -> int | None:
        """Give the offset of the oldest accepted event of the partition that a restart needs.

        It never falls: a forgotten id comes back only with a newer offset.
        """
        used = len(self._slots)
        own = self._partition[:used] == partition
        offsets = [
            offset[:used][needed].min()
            for offset, last in ((self._offset, self._last), (self._older, self._older_last))
            if (needed := own & (last[:used] >= horizon)).any()
        ]
        return int(min(offsets)) if offsets else None

    def _make_room(self, events: Identified) -> None:
        """Forget what is beyond the horizon when the table is full, then grow if needed."""
        capacity, used = len(self._payload), len(self._slots)
        if used + len(events) <= capacity * 3 // 4:
            return
        limits = self._limits(events)
        # an event is needed for longer than it is known, never for less
        live = np.flatnonzero((self._last[:used] >= limits) | (self._older_last[:used] >= limits))
        keys = self._slots.keys[live]
        kept = [column[live] for column in self._columns()]
        # At most half full afterwards, so that the next time is at least a quarter of the capacity
        # away, and the cost per event stays constant.
        while len(live) + len(events) > capacity // 2:
            capacity *= 2
        self._reset(capacity)
        slots = self._slots.add(keys)
        for column, values in zip(self._columns(), kept, strict=True):
            column[slots] = values

    def _columns(self) -> tuple[np.ndarray, ...]:
        return (
            self._payload,
            self._newest,
            self._limit,
            self._last,
            self._offset,
            self._older,
            self._older_last,
            self._partition,
        )

    def _limits(self, events: Identified) -> np.ndarray:
        """Give, per slot, the time before which nothing is known to any event of the batch."""
        # Horizons ascend within a partition, so that of its first event is the lowest. Reversed,
        # because the last entry of a key is the one that a dict keeps.
        lowest = dict(
            zip(events.partitions[::-1].tolist(), events.horizons[::-1].tolist(), strict=True)
        )
        used = len(self._slots)
        # the ids of partitions that the batch does not touch stay
        limits = np.full(used, NEVER, np.int64)
        for partition, horizon in lowest.items():
            limits[self._partition[:used] == partition] = horizon
        return limits


def _alone(slots: np.ndarray, known: int) -> np.ndarray:
    """Mark the rows whose slot is new, not below `known`, and belongs to no other row."""
    new = slots >= known
    rows_per_slot = np.bincount(slots[new] - known, minlength=1)
    alone = new.copy()
    alone[new] = rows_per_slot[slots[new] - known] == 1
    return alone
