"""The state of `flows/metrics.py`: drop what was seen before, count the rest into every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from flows.domain.batch import Batch, Origin, Refusal, rows_by_partition, running_maximum
from flows.domain.checkpoint import Checkpoint, CommitNote, Progress
from flows.domain.codes import Code
from flows.domain.family import Family, Items
from flows.domain.items import FlatItems, first_of_event, items_of, summed
from flows.domain.judge import NO_TIME
from flows.domain.metrics import Scope
from flows.domain.tables import GOLD, PROGRESS, Rows, rows_of
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
    rows: Sequence[Rows] = ()
    """Always empty: rows of open windows are pulled (Counting.take)."""


class Counting:
    """Count batches of clean events.

    Time: event time. A window closes when its partition's watermark passes its end plus the
    lateness; clean lets nothing older through, so a closed window can change no more.
    State: the fence, the watermark, and the open windows; rebuilt from the log, `checkpoints` says
    from where.
    """

    def __init__(self, family: Family, origin: Origin, lateness: timedelta, cap: int) -> None:
        self._origin = origin
        self._lateness = lateness // timedelta(milliseconds=1)
        self._cap = cap
        self._items = family.items
        self._windows = [(metric, Windows(metric, cap)) for metric in family.metrics]
        self._questions = {
            scope: [
                question
                for metric, windows in self._windows
                if metric.scope is scope
                for question in windows.questions
            ]
            for scope in Scope
        }
        self._lengths = {
            starts_of(metric): metric.window // timedelta(milliseconds=1)
            for metric in family.metrics
        }
        self._longest = max(self._lengths.values())
        self._inherited = _inherited(self._questions[Scope.ITEM], self._items)
        self._fences: dict[int, int] = {}
        self._watermarks: dict[int, int] = {}
        self._firsts: dict[int, dict[int, int]] = {}
        self._reported: dict[int, int] = {}
        self._closed: dict[int, int] = {}
        self._progress = Progress()

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._fences[partition] = self._reported[partition] = checkpoint.note.get("fence", -1)
        self._watermarks[partition] = checkpoint.note.get("watermark", NO_TIME)
        self._firsts[partition] = {}
        self._progress.restore(partition, checkpoint)

    def count(self, clean: CleanEvents) -> Counted:
        """Count a batch; the rows that changed wait for `take`."""
        batch, events = clean.batch, clean.events
        # before the fence and the watermark move: a restart at the first offset begins from these
        for p, offset in batch.first_offsets.items():
            self._progress.remember(p, offset, self._note(p))
        is_new = self._progress.is_new(batch.partition, batch.offset)
        rows = events["row"].to_numpy()
        partition, source = batch.partition[rows], events["source_offset"].to_numpy()
        # The fence. Clean writes the events of a partition in the order of their raw offsets, but
        # at least once: after a crash, or from two processes that overlap for a moment, a stretch
        # comes again at higher offsets of the clean topic. An event at or below the highest raw
        # offset so far was counted already. For example raw offsets 5 6 7 | 6 7 8: the second 6 and
        # 7 are repeats, 8 is counted. Gaps are normal, since not every record is accepted.
        unseen = source > running_maximum(partition, source, self._fences)
        # A repeat cannot move the watermark, but could be noted as the first of a closed window.
        times = events["event_time"].to_physical().to_numpy()
        running_maximum(partition[unseen], times[unseen], self._watermarks)
        self._note_firsts(partition[unseen], times[unseen], batch.offset[rows][unseen])
        events = events.hstack(
            [
                pl.Series("partition", partition, pl.Int32),
                pl.Series("is_new", is_new[rows], pl.Boolean),
            ]
        )
        # Events that are not new count too, to rebuild their windows; but `is_new` goes with them,
        # and only new ones make a row change.
        self._add(events if unseen.all() else events.filter(pl.Series(unseen)))
        for p, offset in batch.last_offsets.items():
            self._progress.advance(p, offset)
        return _counted(clean, unseen, is_new)

    def _add(self, events: pl.DataFrame) -> None:
        if not len(events):
            return
        times = events["event_time"].to_physical().to_numpy()
        events = events.hstack(
            [
                pl.Series(name, times // length * length).cast(pl.Datetime("ms", "UTC"))
                for name, length in self._lengths.items()
            ]
        )
        if self._items is not None:
            flat = items_of(events, self._items)
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
        answers = frame.select(*self._questions[scope], "is_new")
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

    def take(self) -> list[Rows]:
        """Give the rows that changed since the last call, and how far they are complete.

        Closed windows are freed.
        """
        changed = [
            Rows(GOLD[metric.name], windows.take(), distinct=True)
            for metric, windows in self._windows
        ]
        self._forget()
        return [rows for rows in (*changed, self._progress_rows()) if len(rows.frame)]

    def _progress_rows(self) -> Rows:
        ahead = [p for p, fence in self._fences.items() if fence > self._reported[p]]
        self._reported |= {p: self._fences[p] for p in ahead}
        flow, topic = self._origin.flow, self._origin.topic
        return rows_of(
            PROGRESS,
            [(flow, topic, p, self._fences[p], self._watermarks[p]) for p in ahead],
        )

    def _forget(self) -> None:
        """Free the windows that closed since the last time."""
        # The latest start that is closed, per partition. It moves only when a watermark passes the
        # end of a window, so most flushes compare two small dicts and are done.
        closed = {
            p: (mark - self._lateness) // self._longest * self._longest - self._longest
            for p, mark in self._watermarks.items()
            if mark > NO_TIME
        }
        if closed == self._closed:
            return
        self._closed = closed
        for _, windows in self._windows:
            windows.forget(closed)
        for p, limit in closed.items():
            self._firsts[p] = {
                start: first for start, first in self._firsts[p].items() if start > limit
            }

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Give where each partition stands once all that was counted is in the outputs."""
        return {
            p: self._progress.checkpoint(
                p, min(self._firsts[p].values(), default=None), self._note(p)
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
        return {"fence": self._fences[p], "watermark": self._watermarks[p]} | self.depends_on()


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
    timestamps = clean.events["source_timestamp"].to_physical().to_numpy()
    caught_up = clean.batch.caught_up
    refused = [refusal.code for refusal in clean.refused if is_new[refusal.row]]
    if unseen.all() and is_new.all():
        return Counted(timestamps, 0, refused, caught_up)
    new_events = is_new[clean.events["row"].to_numpy()]
    counted = timestamps[unseen & new_events]
    return Counted(counted, int(new_events.sum()) - len(counted), refused, caught_up)
