"""The state of `flows/metrics.py`: drop what was seen before, count the rest into every metric of
the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from flows.domain.batch import Batch, rows_by_partition, running_maximum
from flows.domain.checkpoint import Checkpoint, CommitNote, Progress
from flows.domain.codes import Code
from flows.domain.judge import NO_TIME
from flows.domain.metrics import CATALOGUE, MetricTable, Scope
from flows.domain.tables import GOLD, PROGRESS, Rows
from flows.domain.validate import items_of, sums_of
from flows.domain.windows import Windows, starts_of

# what an item's metrics read of its event
SHARED = ("partition", "is_new", "event_time", "event_type", "shop_id", "currency")


@dataclass(frozen=True)
class CleanEvents:
    """Accepted events of one poll. Shape: `events` has the columns of avro/clean_web_event.avsc and
    `row`, the index of the record that held it (a record may hold many). `refused` has (row,
    code) of records that could not be read.
    """

    batch: Batch
    events: pl.DataFrame
    refused: Sequence[tuple[int, Code]] = ()


@dataclass(frozen=True)
class Seen:
    """What became of the news of a batch. Shape: `stamps` has the Kafka timestamp (ms) of each
    counted event's raw record.
    """

    counted: int
    repeated: int
    refused: list[Code]
    stamps: np.ndarray


class Counting:
    """Count batches of clean events.

    Time: event time. A window closes when its partition's watermark passes its end plus the
    lateness; clean lets nothing older through, so a closed window can change no more.
    State: the fence, the watermark, and the open windows; rebuilt from the log, `checkpoints` says
    from where.
    """

    def __init__(
        self,
        topic: str,
        lateness: timedelta,
        cap: int,
        catalogue: Sequence[MetricTable] = CATALOGUE,
    ) -> None:
        self._topic = topic
        self._lateness = lateness // timedelta(milliseconds=1)
        self._cap = cap
        self._windows = [(metric, Windows(metric, cap)) for metric in catalogue]
        self._asked = {
            scope: [
                expression
                for metric, windows in self._windows
                if metric.scope is scope
                for expression in windows.expressions
            ]
            for scope in Scope
        }
        self._lengths = {
            starts_of(metric): metric.window // timedelta(milliseconds=1) for metric in catalogue
        }
        self._longest = max(int(metric.window.total_seconds() * 1000) for metric in catalogue)
        self._fences: dict[int, int] = {}
        self._watermarks: dict[int, int] = {}
        self._firsts: dict[int, dict[int, int]] = {}
        self._told: dict[int, int] = {}
        self._closed: dict[int, int] = {}
        self._progress = Progress()
        self.caught_up = True
        self.seen = Seen(0, 0, [], np.empty(0, np.int64))

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._fences[partition] = self._told[partition] = checkpoint.note.get("fence", -1)
        self._watermarks[partition] = checkpoint.note.get("watermark", NO_TIME)
        self._firsts[partition] = {}
        self._progress.restore(partition, checkpoint)

    def count(self, read: CleanEvents) -> Counting:
        """Count a batch; what changed waits for `take`."""
        batch, events = read.batch, read.events
        for p, offset in batch.first_offsets.items():
            self._progress.remember(p, offset, self._note(p))
        is_new = self._progress.is_new(batch.partition, batch.offset)
        rows = events["row"].to_numpy()
        partition, source = batch.partition[rows], events["source_offset"].to_numpy()
        new = source > running_maximum(partition, source, self._fences)
        times = events["event_time"].to_physical().to_numpy()
        running_maximum(partition[new], times[new], self._watermarks)
        self._note_firsts(partition[new], times[new], batch.offset[rows][new])
        events = events.hstack(
            [
                pl.Series("partition", partition, pl.Int32),
                pl.Series("is_new", is_new[rows], pl.Boolean),
            ]
        )
        self._add(events if new.all() else events.filter(pl.Series(new)))
        for p, offset in batch.last_offsets.items():
            self._progress.advance(p, offset)
        self.caught_up = batch.caught_up
        self.seen = seen(read, new, is_new)
        return self

    def _add(self, events: pl.DataFrame) -> None:
        if not len(events):
            return
        items, owner = items_of(events)
        counts = np.bincount(owner, minlength=len(events))
        quantity = items["quantity"].to_numpy().astype(np.int64)
        amounts = quantity * items["unit_price_minor"].to_numpy()
        times = events["event_time"].to_physical().to_numpy()
        starts = [
            pl.Series(name, times // length * length).cast(pl.Datetime("ms", "UTC"))
            for name, length in self._lengths.items()
        ]
        sums = [
            pl.Series("items_units", sums_of(quantity, counts)),
            pl.Series("items_total_minor", sums_of(amounts, counts)),
        ]
        events = events.hstack(starts + sums)
        shared = events[[*SHARED, *self._lengths]][owner]
        by_item = items.hstack([*shared.get_columns(), pl.Series("once", once(items, owner))])
        for scope, frame in ((Scope.EVENT, events), (Scope.ITEM, by_item)):
            answers = frame.select(*self._asked[scope], "is_new")
            for metric, windows in self._windows:
                if metric.scope is scope:
                    windows.add(answers)

    def _note_firsts(self, partition: np.ndarray, times: np.ndarray, offset: np.ndarray) -> None:
        starts = times // self._longest * self._longest
        for p, rows in rows_by_partition(partition).items():
            firsts, mine = self._firsts[p], starts[rows]
            for start in np.unique(mine).tolist():
                if start not in firsts:
                    firsts[start] = int(offset[rows[np.argmax(mine == start)]])

    def take(self) -> list[Rows]:
        """The rows that changed since the last call, and how far they are complete; closed windows
        are freed.
        """
        found = [
            Rows(GOLD[metric.name], windows.take(), distinct=True)
            for metric, windows in self._windows
        ]
        self._forget()
        far = [p for p, fence in self._fences.items() if fence > self._told[p]]
        self._told |= {p: self._fences[p] for p in far}
        progress = pl.DataFrame(
            {
                "flow": ["metrics"] * len(far),
                "source_topic": [self._topic] * len(far),
                "partition": far,
                "source_offset": [self._fences[p] for p in far],
                "watermark": [self._watermarks[p] for p in far],
            },
            schema={
                "flow": pl.String,
                "source_topic": pl.String,
                "partition": pl.Int32,
                "source_offset": pl.Int64,
                "watermark": pl.Int64,
            },
        ).with_columns(pl.col("watermark").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))
        return [rows for rows in (*found, Rows(PROGRESS, progress)) if len(rows.frame)]

    def _forget(self) -> None:
        """Free what closed since the last time; that can only be when a watermark passed the end of
        a window.
        """
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
        """Where each partition stands once all that was counted is in the outputs."""
        return {
            p: self._progress.checkpoint(
                p, min(self._firsts[p].values(), default=None), self._note(p)
            )
            for p in self._progress.partitions
        }

    def watermarks(self) -> dict[int, int]:
        """Partition -> its watermark (ms), where it has one."""
        return {p: mark for p, mark in dict(self._watermarks).items() if mark > NO_TIME}

    def sizes(self) -> dict[str, int]:
        """Rows of open windows, by table."""
        return {metric.name: len(windows) for metric, windows in self._windows}

    def depends_on(self) -> CommitNote:
        """The settings that rows depend on."""
        return {"lateness": self._lateness, "cap": self._cap}

    def _note(self, p: int) -> CommitNote:
        return {"fence": self._fences[p], "watermark": self._watermarks[p]} | self.depends_on()


def seen(read: CleanEvents, new: np.ndarray, is_new: np.ndarray) -> Seen:
    """What a batch brought that is no repetition of a start: `new` a row an event, `is_new` one a
    record.
    """
    stamps = read.events["source_timestamp"].to_physical().to_numpy()
    refused = [code for row, code in read.refused if is_new[row]]
    if new.all() and is_new.all():
        return Seen(len(stamps), 0, refused, stamps)
    news = is_new[read.events["row"].to_numpy()]
    counted = stamps[new & news]
    return Seen(len(counted), int(news.sum()) - len(counted), refused, counted)


def once(items: pl.DataFrame, owner: np.ndarray) -> np.ndarray:
    """Mark the first item of each (event, product, category): an event counts once a product."""
    first = np.ones(len(items), bool)
    shared = np.bincount(owner, minlength=1)[owner] > 1 if len(owner) else first
    if shared.any():
        several = (
            items.select("product_id", "category")
            .with_columns(pl.Series("owner", owner))
            .filter(pl.Series(shared))
        )
        first[shared] = (
            several.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
        )
    return first
