"""Send records when they are due.

The schedule does not wait for the sink: how far sending falls behind it is measured and reported
(test_an_open_loop_tells_how_far_it_is_behind).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from generators.records import Records
from generators.sending.sinks import Sink

# Between two looks at the schedule; what is due by then leaves together, on average half of it
# late. Looking again at once would send two records a call, since more are due by the time that one
# call takes: half a core at 16,700 a second, which is missing to what is measured.
TICK_SECONDS = 0.004
PROGRESS_SECONDS = 0.2
MAX_RECORDS_AT_ONCE = 8192
_HISTOGRAM_MS = 600_000  # ten minutes, one bin per millisecond

# A chunk, its rows [first, last), their scheduled Unix times, and when they were sent, in
# microseconds.
OnSent = Callable[[Records, int, int, np.ndarray, int], None]


@dataclass(frozen=True)
class Progress:
    """How far a run is, with the records that were acknowledged since the last report.

    Shape: `partition`, `offset` and `scheduled_at_us` have one entry per such record.
    Time: `scheduled_at_us` is Unix time.
    """

    sent: int
    acknowledged: int
    partition: np.ndarray
    offset: np.ndarray
    scheduled_at_us: np.ndarray


@dataclass(frozen=True)
class ScheduleLag:
    """How far sending fell behind the schedule; 0 where it followed none."""

    max_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Pacing:
    """When records leave: each when it is due, or, without `scheduled`, all at once.

    Time: `start_us` is the Unix time of the schedule's zero.
    """

    start_us: int
    scheduled: bool


class Tracker:
    """Match acknowledged offsets to records: a partition's k-th report is for its k-th record.

    State: sequence number and scheduled time of every record sent, in order of each partition.
    """

    def __init__(self, partitions: int) -> None:
        self._due: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self._seq: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self._offsets: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self.sent, self.acknowledged = 0, 0

    def register(self, partition: np.ndarray, scheduled_us: np.ndarray) -> None:
        """Remember records that are about to be sent."""
        seq = np.arange(self.sent, self.sent + len(partition))
        self.sent += len(partition)
        for number in range(len(self._due)):
            rows = partition == number
            if rows.any():
                self._due[number].append(scheduled_us[rows])
                self._seq[number].append(seq[rows])

    def confirm(self, offsets: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give partition, offset and scheduled time of newly acknowledged records."""
        partitions, scheduled = [], []
        for number, new in enumerate(offsets):
            if len(new):
                self._offsets[number].append(new)
                merged = np.concatenate(self._due[number])
                scheduled.append(merged[: len(new)])
                self._due[number] = [merged[len(new) :]]
                partitions.append(np.full(len(new), number, dtype=np.int32))
                self.acknowledged += len(new)
        empty = np.zeros(0, dtype=np.int64)
        confirmed = [new for new in offsets if len(new)]
        return (
            np.concatenate(partitions) if partitions else empty.astype(np.int32),
            np.concatenate(confirmed) if confirmed else empty,
            np.concatenate(scheduled) if scheduled else empty,
        )

    def bounds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Give each partition's first offset and the one after its last."""
        reports = {number: offsets for number, offsets in enumerate(self._offsets) if offsets}
        first = {number: int(offsets[0][0]) for number, offsets in reports.items()}
        return first, {number: int(offsets[-1][-1]) + 1 for number, offsets in reports.items()}

    def offsets_in_order(self) -> np.ndarray:
        """Give the offset of every record sent, by sequence number; -1 where no report came."""
        by_sequence = np.full(self.sent, -1, dtype=np.int64)
        for number, sequences in enumerate(self._seq):
            if sequences and self._offsets[number]:
                offsets = np.concatenate(self._offsets[number])
                by_sequence[np.concatenate(sequences)[: len(offsets)]] = offsets
        return by_sequence


class Sender:
    """Play records into a sink on an open loop."""

    def __init__(
        self,
        sink: Sink,
        pacing: Pacing,
        tracker: Tracker | None,
        on_progress: Callable[[Progress], None] | None,
        on_sent: OnSent | None,
    ) -> None:
        self._sink, self._pacing, self._tracker = sink, pacing, tracker
        self._on_progress, self._on_sent = on_progress, on_sent
        self._lag_histogram = np.zeros(_HISTOGRAM_MS, dtype=np.int64)
        self._max_lag_us = 0
        self._reported_at = self._tick_at = time.monotonic()
        self.sent = 0

    def play(self, chunks: Iterable[Records]) -> ScheduleLag:
        """Send everything, wait for the last acknowledgement, and give the lag behind schedule."""
        remaining: Iterator[Records] = iter(chunks)
        following = next(remaining, None)
        while following is not None:
            records, following = following, None
            first, fetched = 0, False
            while first < len(records):
                last = self._due_until(records, first)
                if last > first:
                    self._send(records, first, last)
                is_behind = last - first == MAX_RECORDS_AT_ONCE
                first = last
                if self._pacing.scheduled and not is_behind:
                    if not fetched:  # while nothing is due, write the next chunk
                        following, fetched = next(remaining, None), True
                    self._wait_for_tick()
                self._report_progress()
            if not fetched:
                following = next(remaining, None)
        self._sink.finish()
        self._report_progress(final=True)
        return self._schedule_lag()

    def _wait_for_tick(self) -> None:
        """Sleep until the next tick; at once when it is over."""
        now = time.monotonic()
        self._tick_at += TICK_SECONDS
        if self._tick_at > now:
            time.sleep(self._tick_at - now)
        else:
            self._tick_at = now

    def _due_until(self, records: Records, first: int) -> int:
        """Give the end of the records that are due, at most MAX_RECORDS_AT_ONCE from `first` on."""
        limit = min(first + MAX_RECORDS_AT_ONCE, len(records))
        if not self._pacing.scheduled:
            return limit
        now_us = time.time_ns() // 1000 - self._pacing.start_us
        return min(int(np.searchsorted(records.due_us, now_us, side="right")), limit)

    def _send(self, records: Records, first: int, last: int) -> None:
        now_us = time.time_ns() // 1000
        if self._pacing.scheduled:
            scheduled_us = records.due_us[first:last] + self._pacing.start_us
            lag_us = now_us - scheduled_us
            self._max_lag_us = max(self._max_lag_us, int(lag_us[0]))
            counts = np.bincount(np.clip(lag_us // 1000, 0, _HISTOGRAM_MS - 1))
            self._lag_histogram[: len(counts)] += counts
        else:
            scheduled_us = np.full(last - first, now_us)
        if self._tracker is not None:
            self._tracker.register(records.partition[first:last], scheduled_us)
        self._sink.put(records, first, last)
        self.sent += last - first
        if self._on_sent is not None:
            self._on_sent(records, first, last, scheduled_us, now_us)

    def _report_progress(self, final: bool = False) -> None:
        now = time.monotonic()
        if self._tracker is None or not (final or now - self._reported_at >= PROGRESS_SECONDS):
            return
        self._reported_at = now
        partition, offset, scheduled_us = self._tracker.confirm(self._sink.acknowledged())
        if self._on_progress is not None:
            sent, acknowledged = self._tracker.sent, self._tracker.acknowledged
            self._on_progress(Progress(sent, acknowledged, partition, offset, scheduled_us))

    def _schedule_lag(self) -> ScheduleLag:
        total = int(self._lag_histogram.sum())
        if not total:
            return ScheduleLag(0.0, 0.0)
        rank = int(np.searchsorted(np.cumsum(self._lag_histogram), -(-total * 99 // 100)))
        return ScheduleLag(self._max_lag_us / 1000, min(float(rank + 1), self._max_lag_us / 1000))
