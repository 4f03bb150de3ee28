"""The state of `flows/metrics.py`: count the events that pass the fence into every metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from flows.domain.batch import (
    Batch,
    Origin,
    Refusal,
    milliseconds_of,
    rows_by_partition,
    running_maximum,
)
from flows.domain.checkpoint import Checkpoint, CommitNote, Progress
from flows.domain.codes import Code
from flows.domain.errors import PermanentError
from flows.domain.family import Family, Items
from flows.domain.fence import Fence, Terms
from flows.domain.items import FlatItems, first_of_event, items_of, summed
from flows.domain.judge import NO_TIME
from flows.domain.losses import Loss
from flows.domain.metrics import MetricTable, Scope
from flows.domain.minute_counts import MinuteCounts
from flows.domain.packed import Answers
from flows.domain.packed_windows import PackedWindows
from flows.domain.tables import COUNTED, PROGRESS, AnyRows, TupleRows
from flows.domain.windows import Windows, starts_of


@dataclass(frozen=True)
class CleanEvents:
    """Accepted events of one poll.

    Shape: `events` has the columns of the clean contract, `has_nul`, and `row`, the index of the
    record that held it (a record may hold many). `refused` is the records that could not be read.
    """

    batch: Batch
    events: pl.DataFrame
    refused: Sequence[Refusal] = ()
    flat: FlatItems | None = None
    """The items of the events, where reading has found them anyway."""


@dataclass(frozen=True)
class Counted:
    """What became of the new events of a batch.

    Shape: `timestamps` has the Kafka timestamp (ms) of each counted event's raw record, `refused`
    the codes of unreadable records. `repeated` events were dropped by the fence.
    """

    timestamps: np.ndarray
    repeated: int
    refused: Sequence[Code]
    caught_up: bool
    rows: Sequence[AnyRows] = ()
    """Always empty: rows of open windows are pulled (Counting.take)."""


@dataclass(frozen=True)
class Windowing:
    """How windows are kept.

    They close when the watermark is `lateness` past their end; a capped dimension keeps `cap`
    values per window. With `kernels`, compiled code counts; without, the reference (windows.py).
    """

    lateness: timedelta
    cap: int
    kernels: bool = True


ANY_TERMS = Terms()
# behind every window: in a partition whose incarnation is over, all are closed
LAST_START = 2**62


class Counting:
    """Count batches of clean events.

    Time: event time. A window closes when its partition's watermark passes its end plus the
    lateness; clean lets nothing older through, so a closed window can change no more.
    State: the fence, the watermarks, and the open windows; rebuilt from the log, `checkpoints` says
    from where.
    """

    def __init__(
        self,
        family: Family,
        origin: Origin,
        windowing: Windowing,
        terms: Terms = ANY_TERMS,
    ) -> None:
        self._origin = origin
        self._fence = Fence(terms)
        self._lateness = windowing.lateness // timedelta(milliseconds=1)
        self._cap = windowing.cap
        self._items = family.items
        kind = PackedWindows if windowing.kernels else Windows
        self._windows: list[tuple[MetricTable, PackedWindows | Windows]] = [
            (metric, kind(metric, self._cap)) for metric in family.metrics
        ]
        # metrics that ask the same share the answer
        questions: dict[Scope, dict[str, pl.Expr]] = {scope: {} for scope in Scope}
        for metric, windows in self._windows:
            questions[metric.scope] |= windows.questions
        self._questions = {
            scope: [question.alias(name) for name, question in own.items()]
            for scope, own in questions.items()
        }
        self._lengths = {
            starts_of(metric): metric.window // timedelta(milliseconds=1)
            for metric in family.metrics
        }
        self._longest = max(self._lengths.values())
        self._inherited = _inherited(self._questions[Scope.ITEM], self._items)
        # By the number of a partition in tables, which tells incarnations apart.
        self._watermarks: dict[int, int] = {}
        self._minutes = MinuteCounts()
        self._firsts: dict[int, dict[int, int]] = {}
        self._over: set[int] = set()
        self._reported: dict[int, int] = {}
        self._closed: dict[int, int] = {}
        self._progress = Progress()
        self._losses: list[Loss] = []

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._fence.restore(partition, checkpoint.note)
        number = self._fence.number(partition)
        self._reported[partition] = self._fence.place(partition)[0]
        self._watermarks[number] = checkpoint.note.get("watermark", NO_TIME)
        self._firsts[number] = {}
        self._progress.restore(partition, checkpoint)

    def lose(self, loss: Loss) -> None:
        """Take note of records of the clean topic that were gone before they were read."""
        self._fence.lose(loss)
        self._losses.append(loss)

    def admit(self, clean: CleanEvents) -> CleanEvents:
        """Refuse the records with an event that clean cannot have written."""
        events, batch = clean.events, clean.batch
        foreign = self._fence.foreign(batch.partition[events["row"].to_numpy()], events)
        if not foreign.any():
            return clean
        rows = np.unique(events["row"].to_numpy()[foreign])
        refused = [*clean.refused, *(Refusal(row, Code.INVALID) for row in rows.tolist())]
        return CleanEvents(batch, events.filter(~pl.col("row").is_in(rows.tolist())), refused)

    def count(self, clean: CleanEvents) -> Counted:
        """Count a batch; the rows that changed wait for `take`.

        Errors: PermanentError when accepted events are missing, or come when their window is
        closed.
        """
        batch, events = clean.batch, clean.events
        # before the fence and the watermark move: a restart at the first offset begins from these
        for p, offset in batch.first_offsets.items():
            self._progress.remember(p, offset, self._note(p))
        rows = events["row"].to_numpy()
        all_new = self._progress.is_new(batch.partition, batch.offset)
        is_new = all_new[rows]
        passed = self._fence.passing(batch.partition[rows], events, is_new)
        unseen, partition = passed.unseen, passed.partition
        for number in np.unique(partition[unseen]).tolist():
            self._watermarks.setdefault(number, NO_TIME)
            self._firsts.setdefault(number, {})
        self._over.update(passed.switched)
        # A repeat cannot move the watermark, but could be noted as the first of a closed window.
        times = milliseconds_of(events["event_time"])
        marks = running_maximum(partition[unseen], times[unseen], self._watermarks)
        self._raise_if_late(times[unseen], marks, is_new[unseen])
        self._note_firsts(partition[unseen], times[unseen], batch.offset[rows][unseen])
        numbered = unseen & (events["accepted"].to_numpy() > 0)
        self._minutes.add(partition[numbered], times[numbered], is_new[numbered])
        events = events.hstack(
            [
                pl.Series("partition", partition, pl.Int32),
                pl.Series("is_new", is_new, pl.Boolean),
            ]
        )
        # Events that are not new count too, to rebuild their windows; but `is_new` goes with them,
        # and only new ones make a row change.
        if unseen.all():
            self._add(events, clean.flat)
        else:
            self._add(events.filter(pl.Series(unseen)), None)
        for p, offset in batch.last_offsets.items():
            self._progress.advance(p, offset)
        return _counted(clean, unseen, all_new)

    def _raise_if_late(self, times: np.ndarray, marks: np.ndarray, is_new: np.ndarray) -> None:
        late = is_new & (times < marks - self._lateness)
        if late.any():
            behind = int((marks - times)[late].max())
            raise PermanentError(
                f"clean has accepted an event {behind / 1000:g} s behind the watermark, and the"
                f" windows of {self._origin.flow} close after {self._lateness / 1000:g} s: set"
                " SHOPSTREAM_ALLOWED_LATENESS_SECONDS alike for both"
            )

    def _add(self, events: pl.DataFrame, flat: FlatItems | None) -> None:
        if not len(events):
            return
        times = milliseconds_of(events["event_time"])
        events = events.hstack(
            [
                pl.Series(name, times // length * length).cast(pl.Datetime("ms", "UTC"))
                for name, length in self._lengths.items()
            ]
        )
        if self._items is not None:
            flat = flat or items_of(events, self._items)
            values = flat.frame.select(
                value.alias(name) for name, value in self._items.metric_sums.items()
            )
            events = events.hstack(summed(flat, values, self._items.metric_sums))
            self._answer(Scope.ITEM, self._by_item(events, flat, self._items))
        self._answer(Scope.EVENT, events)

    def _by_item(self, events: pl.DataFrame, flat: FlatItems, items: Items) -> pl.DataFrame:
        """Give one row per item, with the columns of its event that metrics read."""
        inherited = events[self._inherited][flat.owner]
        once = pl.Series("once", first_of_event(flat, items.once_per))
        return flat.frame.hstack([*inherited.get_columns(), once])

    def _answer(self, scope: Scope, frame: pl.DataFrame) -> None:
        """Evaluate all metrics of a scope by one query, and add its columns to their windows."""
        if not self._questions[scope]:
            return
        answers = Answers(frame.select(*self._questions[scope], "is_new"))
        for metric, windows in self._windows:
            if metric.scope is scope:
                windows.add(answers)

    def _note_firsts(self, partition: np.ndarray, times: np.ndarray, offset: np.ndarray) -> None:
        # Where a restart must begin to rebuild the open windows. By the longest window, which the
        # shorter ones must divide: then each lies in one of these, and closes no later.
        starts = times // self._longest * self._longest
        for p, rows in rows_by_partition(partition).items():
            firsts, own = self._firsts[p], starts[rows]
            for start in np.unique(own).tolist():
                if start not in firsts:
                    firsts[start] = int(offset[rows[np.argmax(own == start)]])

    def take(self) -> list[AnyRows]:
        """Give the rows that changed since the last call, and how far they are complete.

        Closed windows are freed.
        """
        changed = [windows.take() for _, windows in self._windows]
        rows: list[AnyRows] = [rows for rows in (*changed, *self._progress_rows()) if len(rows)]
        self._forget()
        return rows

    def _progress_rows(self) -> Iterator[TupleRows]:
        places = {p: self._fence.place(p) for p in self._progress.partitions}
        ahead = [p for p, (fence, _) in places.items() if fence != self._reported[p]]
        self._reported |= {p: places[p][0] for p in ahead}
        flow, topic = self._origin.flow, self._origin.topic
        numbers = {p: self._fence.number(p) for p in ahead}
        yield TupleRows(
            PROGRESS,
            [
                (flow, topic, n, places[p][0], self._watermarks[n], places[p][1])
                for p, n in numbers.items()
            ],
        )
        yield TupleRows(
            COUNTED, [(start, flow, topic, n, events) for n, start, events in self._minutes.take()]
        )

    def losses(self) -> list[Loss]:
        """Give the losses since the last call."""
        losses, self._losses = [*self._fence.losses(), *self._losses], []
        return losses

    def _forget(self) -> None:
        """Free the windows that closed since the last time."""
        # The latest start that is closed, per partition. It moves only when a watermark passes the
        # end of a window, so most flushes compare two small dicts and are done.
        closed = {
            p: (mark - self._lateness) // self._longest * self._longest - self._longest
            for p, mark in self._watermarks.items()
            if mark > NO_TIME
        } | dict.fromkeys(self._over, LAST_START)
        if closed == self._closed:
            return
        self._closed = closed
        for _, windows in self._windows:
            windows.forget(closed)
        self._minutes.forget(closed)
        for p, limit in closed.items():
            self._firsts[p] = {
                start: first for start, first in self._firsts[p].items() if start > limit
            }

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Give where each partition stands once all that was counted is in the outputs."""
        return {
            p: self._progress.checkpoint(
                p,
                min(self._firsts[self._fence.number(p)].values(), default=None),
                self._note(p),
            )
            for p in self._progress.partitions
        }

    def watermarks(self) -> dict[int, int]:
        """Give the watermark (ms) of each partition that has one."""
        # a copy by `dict`, because telemetry asks from a thread of its own
        return {p: mark for p, mark in dict(self._watermarks).items() if mark > NO_TIME}

    def sizes(self) -> dict[str, int]:
        """Count the rows of open windows, by metric."""
        return {metric.name: len(windows) for metric, windows in self._windows}

    def depends_on(self) -> CommitNote:
        """Name the settings that rows depend on, with their values."""
        return {"lateness": self._lateness, "cap": self._cap}

    def _note(self, p: int) -> CommitNote:
        watermark = self._watermarks[self._fence.number(p)]
        return {"watermark": watermark} | self._fence.note(p) | self.depends_on()


def _inherited(questions: Sequence[pl.Expr], items: Items | None) -> list[str]:
    """Name the columns of an event that the metrics of its items read."""
    if items is None:
        return []
    read = {name for question in questions for name in question.meta.root_names()}
    return sorted((read | {"is_new"}) - set(items.columns) - {"once"})


def _counted(clean: CleanEvents, unseen: np.ndarray, is_new: np.ndarray) -> Counted:
    """Sum up a batch.

    Shape: `unseen` has one bool per event, `is_new` one per record.
    """
    # a copy: telemetry keeps them until their rows are committed, and a view would keep the batch
    timestamps = milliseconds_of(clean.events["source_timestamp"]).copy()
    caught_up = clean.batch.caught_up
    refused = [refusal.code for refusal in clean.refused if is_new[refusal.row]]
    if unseen.all() and is_new.all():
        return Counted(timestamps, 0, refused, caught_up)
    new_events = is_new[clean.events["row"].to_numpy()]
    counted = timestamps[unseen & new_events]
    return Counted(counted, int(new_events.sum()) - len(counted), refused, caught_up)
