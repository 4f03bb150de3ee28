"""Which clean events are the next ones: none twice, and none left out without a word.

Clean writes the events of a partition in the order of their raw offsets, but at least once: after a
crash, or from two processes that overlap for a moment, a stretch comes again. An event at or behind
the highest raw offset so far, the fence, was counted already. For example raw offsets
5 6 7 | 6 7 8: the second 6 and 7 are repeats, 8 is counted. Gaps between offsets are normal, since
not every record is accepted; but the accepted ones are numbered, and a number that is left out is
an event that was lost between clean and here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl

from flows.domain.batch import milliseconds_of, rows_by_partition
from flows.domain.checkpoint import CommitNote
from flows.domain.errors import PermanentError
from flows.domain.incarnation import UNKNOWN, behind_gaps, generation_of, numbered
from flows.domain.losses import Cause, Loss

# Of raw offsets from one accepted event to the next: what is refused lies between them.
USUAL_LEAP = 10_000


def _any_lane(incarnation: int) -> int | None:
    return 0


def _holds(partition: int, incarnation: int, offset: int) -> bool:
    return True


@dataclass(frozen=True)
class Terms:
    """What the fence must know of the world.

    `topic` is the raw topic. `lane_of` gives the lane of one of its incarnations, None for one that
    it never had; `holds` says whether a partition of it has had an offset. No accepted event is
    further ahead of its Kafka timestamp than `tolerance`. With `goes_on`, missing events are told
    and passed over, else they stop `flow`.
    """

    topic: str = ""
    lane_of: Callable[[int], int | None] = _any_lane
    holds: Callable[[int, int, int], bool] = _holds
    tolerance: timedelta = timedelta(days=1)
    goes_on: bool = False
    flow: str = "metrics"


@dataclass
class _Partition:
    """Where a partition of the clean topic stands.

    `last` is the number of the event at the fence; 0 before the first, and where events have none.
    `gaps` counts how often records of the clean topic were lost.
    """

    fence: int = -1
    last: int = 0
    incarnation: int = UNKNOWN
    lane: int = 0
    consent: bool = False
    gaps: int = 0


@dataclass
class Passed:
    """Which events pass.

    Shape: one entry per event; `partition` is the number of its partition in tables.
    """

    unseen: np.ndarray
    partition: np.ndarray
    switched: list[int] = field(default_factory=list)
    """Numbers of partitions whose incarnation is over."""


class Fence:
    """Let each accepted event pass once, in order.

    State: per partition the fence, the last number and the incarnation.
    Errors: PermanentError when events are missing, unless `terms.goes_on` or the operator has
    consented (`shopstream accept-loss`).
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._partitions: dict[int, _Partition] = {}
        self._losses: list[Loss] = []

    def restore(self, partition: int, note: CommitNote) -> None:
        """Begin a partition as it stood at `rewind`."""
        incarnation = note.get("source", UNKNOWN)
        gaps = generation_of(note.get("incarnation", UNKNOWN))
        self._partitions[partition] = _Partition(
            note.get("fence", -1),
            note.get("last", 0),
            incarnation,
            self._lane(incarnation, gaps),
            bool(note.get("consent", 0)),
            gaps,
        )

    def note(self, partition: int) -> CommitNote:
        """Give what a restart needs."""
        state = self._partitions[partition]
        return {"fence": state.fence, "last": state.last, "source": state.incarnation}

    def number(self, partition: int) -> int:
        """Give the number that a partition has in tables."""
        return numbered(self._partitions[partition].lane, partition)

    def place(self, partition: int) -> tuple[int, int]:
        """Give the raw offset and the number of the last event that passed."""
        state = self._partitions[partition]
        return state.fence, state.last

    def losses(self) -> list[Loss]:
        """Give the losses since the last call."""
        losses, self._losses = self._losses, []
        return losses

    def lose(self, loss: Loss) -> None:
        """Take note of records of the clean topic that were gone before they were read."""
        # How many of them were events that are not counted, the numbers say: a hole follows. What
        # was cut off was read before.
        if loss.cause is Cause.DELETED:
            self._partitions[loss.partition].consent = True

    def foreign(self, partition: np.ndarray, events: pl.DataFrame) -> np.ndarray:
        """Mark events that clean never wrote, and that would silence a partition for ever.

        Shape: one bool per event.
        """
        offset = events["source_offset"].to_numpy()
        incarnation = events["source_incarnation"].to_numpy()
        ahead = milliseconds_of(events["event_time"]) - milliseconds_of(events["source_timestamp"])
        foreign: np.ndarray = ahead > self._terms.tolerance // timedelta(milliseconds=1)
        for number in np.unique(incarnation).tolist():
            if self._terms.lane_of(number) is None:
                foreign |= incarnation == number
        accepted = events["accepted"].to_numpy()
        for p, rows in rows_by_partition(partition).items():
            if self._is_usual(p, offset[rows], accepted[rows], incarnation[rows]):
                continue
            foreign[rows] |= self._beyond(p, offset[rows], incarnation[rows])
            foreign[rows] |= self._unnumbered(p, accepted[rows])
        return foreign

    def _is_usual(
        self, p: int, offset: np.ndarray, number: np.ndarray, incarnation: np.ndarray
    ) -> bool:
        """Say whether the events are plainly clean's, so that the broker need not be asked."""
        state = self._partitions[p]
        if not ((incarnation == state.incarnation).all() and number.all()):
            return False
        before = _before(offset, state.fence)
        unseen = offset > before
        leaps = (offset - before)[unseen] > USUAL_LEAP
        return _follows(number[unseen], state.last) and not leaps.any()

    def _beyond(self, p: int, offset: np.ndarray, incarnation: np.ndarray) -> np.ndarray:
        beyond = np.zeros(len(offset), bool)
        for number in np.unique(incarnation).tolist():
            rows = np.flatnonzero(incarnation == number)
            # the usual batch costs one question, whose answer is known
            if not self._terms.holds(p, number, int(offset[rows].max())):
                beyond[rows] = [not self._terms.holds(p, number, o) for o in offset[rows].tolist()]
        return beyond

    def _unnumbered(self, p: int, number: np.ndarray) -> np.ndarray:
        """Mark events without a number behind those that have one."""
        if number.all():
            return np.zeros(len(number), bool)
        newest = np.maximum.accumulate(np.concatenate(([self._partitions[p].last], number[:-1])))
        unnumbered: np.ndarray = (number == 0) & (newest > 0)
        return unnumbered

    def passing(self, partition: np.ndarray, events: pl.DataFrame, is_new: np.ndarray) -> Passed:
        """Mark the events that pass.

        Shape: `partition` and `is_new` have one entry per event.
        """
        passed = Passed(np.zeros(len(partition), bool), np.empty(len(partition), np.int32))
        columns = [
            events[name].to_numpy() for name in ("source_offset", "accepted", "source_incarnation")
        ]
        for p, rows in rows_by_partition(partition).items():
            offset, number, incarnation = (column[rows] for column in columns)
            state = self._partitions[p]
            if (incarnation == state.incarnation).all():
                unseen = offset > _before(offset, state.fence)
                if _follows(number[unseen], state.last):
                    self._advance(state, offset[unseen], number[unseen])
                    state.consent &= not is_new[rows].any()  # it was for what was next
                    passed.unseen[rows], passed.partition[rows] = unseen, self.number(p)
                    continue
            self._one_by_one(p, rows, (offset, number, incarnation, is_new[rows]), passed)
        return passed

    def _advance(self, state: _Partition, offset: np.ndarray, number: np.ndarray) -> None:
        if len(offset):
            state.fence, state.last = int(offset[-1]), int(number[-1])

    def _one_by_one(
        self, p: int, rows: np.ndarray, columns: tuple[np.ndarray, ...], passed: Passed
    ) -> None:
        state = self._partitions[p]
        cells = (column.tolist() for column in columns)
        for row, offset, number, incarnation, is_new in zip(rows, *cells, strict=True):
            self._turn(p, incarnation, passed)
            passed.partition[row] = self.number(p)
            if incarnation != state.incarnation or offset <= state.fence:
                continue
            if is_new and not _is_next(state, number):
                self._miss(p, state, offset, number)
            state.fence, state.last = offset, number
            passed.unseen[row] = True

    def _turn(self, p: int, incarnation: int, passed: Passed) -> None:
        """Begin another incarnation, if it is a later one."""
        state = self._partitions[p]
        if incarnation == state.incarnation:
            return
        lane = self._lane(incarnation, state.gaps)
        fresh = state.fence == -1
        if lane > state.lane or fresh or state.incarnation == UNKNOWN:
            if lane > state.lane and not fresh:
                passed.switched.append(self.number(p))
                state.fence, state.last = -1, 0
            state.incarnation, state.lane = incarnation, lane

    def _miss(self, p: int, state: _Partition, offset: int, number: int) -> None:
        records = number - state.last - 1
        loss = Loss(
            self._terms.topic,
            self.number(p),
            state.fence + 1,
            offset,
            max(records, 0),
            Cause.HOLE,
            state.incarnation,
        )
        if self._terms.goes_on or state.consent:
            state.consent = False
            self._losses.append(loss)
            return
        told = (
            f"{loss}: clean accepted {number - 1:,} events before raw offset {offset}, and"
            f" {state.last:,} came"
            if records > 0
            else f"partition {p}: the event at raw offset {offset} has the number {number}, and"
            f" {state.last} events came before it: clean has lost its place"
        )
        raise PermanentError(
            f"{told}. `shopstream accept-loss {self._terms.flow}` goes on without them"
        )

    def _lane(self, incarnation: int, gaps: int) -> int:
        # what was counted of open windows before a gap cannot be counted again: behind it they get
        # rows of their own
        lane = self._terms.lane_of(behind_gaps(incarnation, gaps))
        return 0 if lane is None else lane


def _before(offset: np.ndarray, fence: int) -> np.ndarray:
    """Give the highest offset before each, which nothing repeated can raise."""
    before: np.ndarray = np.maximum.accumulate(np.concatenate(([fence], offset[:-1])))
    return before


def _follows(number: np.ndarray, last: int) -> bool:
    if not len(number) or (last == 0 and not number.any()):
        return True
    return bool(number[0] == last + 1 and (np.diff(number) == 1).all())


def _is_next(state: _Partition, number: int) -> bool:
    # 0: from before events had numbers; and the first that has one may have any
    return number in (0, state.last + 1) or (state.last == 0 and state.fence >= 0)
