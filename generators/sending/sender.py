"""Send records when they are due. The schedule is never slowed: what is behind it is measured and
told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from generators.records import Records
from generators.sending.sinks import Sink

TICK_SECONDS = (
    0.004  # sleep between two looks at the schedule; it is the floor of what "behind" can show
)
PROGRESS_SECONDS = 0.2
MOST_AT_ONCE = 8192
_BINS = 600_000  # milliseconds of a histogram: ten minutes

# A stretch, its rows [first, last), their scheduled Unix times, and when they were sent, in
# microseconds.
OnSent = Callable[[Records, int, int, np.ndarray, int], None]


@dataclass(frozen=True)
class Progress:
    """What happened since the last call.

    Shape: `partition`, `offset` and `scheduled_at_us` (Unix time) of records newly acknowledged, of
    one length.
    """

    sent: int
    acknowledged: int
    behind_ms: float
    elapsed_seconds: float
    partition: np.ndarray
    offset: np.ndarray
    scheduled_at_us: np.ndarray


@dataclass(frozen=True)
class Behind:
    """How far sending fell behind the schedule."""

    max_ms: float
    p99_ms: float


class Tracker:
    """Match acknowledged offsets to what was sent: the k-th report of a partition is its k-th
    record.

    State: sequence number and scheduled time of every record sent, in order of each partition.
    """

    def __init__(self, partitions: int) -> None:
        self._due: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self._seq: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self._offsets: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self.sent, self.acknowledged = 0, 0

    def sending(self, partition: np.ndarray, scheduled_us: np.ndarray) -> None:
        """Remember what is about to be sent."""
        seq = np.arange(self.sent, self.sent + len(partition))
        self.sent += len(partition)
        for number in range(len(self._due)):
            rows = partition == number
            if rows.any():
                self._due[number].append(scheduled_us[rows])
                self._seq[number].append(seq[rows])

    def confirm(self, offsets: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give partition, offset and scheduled time of the newly acknowledged."""
        parts, scheduled = [], []
        for number, new in enumerate(offsets):
            if len(new):
                self._offsets[number].append(new)
                merged = np.concatenate(self._due[number])
                scheduled.append(merged[: len(new)])
                self._due[number] = [merged[len(new) :]]
                parts.append(np.full(len(new), number, dtype=np.int32))
                self.acknowledged += len(new)
        empty = np.zeros(0, dtype=np.int64)
        found = [new for new in offsets if len(new)]
        return (
            np.concatenate(parts) if parts else empty.astype(np.int32),
            np.concatenate(found) if found else empty,
            np.concatenate(scheduled) if scheduled else empty,
        )

    def bounds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Give each partition's first offset and the one after its last."""
        told = {number: parts for number, parts in enumerate(self._offsets) if parts}
        first = {number: int(parts[0][0]) for number, parts in told.items()}
        return first, {number: int(parts[-1][-1]) + 1 for number, parts in told.items()}

    def offsets_in_order(self) -> np.ndarray:
        """Give the offset of every record sent, by sequence number; -1 where no report came."""
        found = np.full(self.sent, -1, dtype=np.int64)
        for number, sequences in enumerate(self._seq):
            if sequences and self._offsets[number]:
                offsets = np.concatenate(self._offsets[number])
                found[np.concatenate(sequences)[: len(offsets)]] = offsets
        return found


class Sender:
    """Play records into a sink on an open loop.

    Time: `start_us` is the Unix time of the schedule's zero; `hurry` ignores the schedule and sends
    at once.
    """

    def __init__(
        self,
        sink: Sink,
        start_us: int,
        hurry: bool,
        tracker: Tracker | None,
        on_progress: Callable[[Progress], None] | None,
        on_sent: OnSent | None,
    ) -> None:
        self._sink, self._start_us, self._hurry, self._tracker = sink, start_us, hurry, tracker
        self._on_progress, self._on_sent = on_progress, on_sent
        self._late_ms = np.zeros(_BINS, dtype=np.int64)
        self._max_us, self._behind_us = 0, 0
        self._told_at = self._began = time.monotonic()
        self.sent = 0

    def play(self, stretches: Iterable[Records]) -> Behind:
        """Send all, wait for the last acknowledgement, and say how far behind it was."""
        ready: Iterator[Records] = iter(stretches)
        following = next(ready, None)
        while following is not None:
            records, following = following, None
            at, drawn = 0, False
            while at < len(records):
                to = self._due(records, at)
                if to > at:
                    self._send(records, at, to)
                    at = to
                elif not drawn:  # time to spare: write the next stretch now
                    following, drawn = next(ready, None), True
                else:
                    self._wait()
                self._tell(force=False)
            if not drawn:
                following = next(ready, None)
        self._sink.finish()
        self._tell(force=True)
        return self._behind()

    def _due(self, records: Records, at: int) -> int:
        most = min(at + MOST_AT_ONCE, len(records))
        if self._hurry:
            return most
        now_us = time.time_ns() // 1000 - self._start_us
        return min(int(np.searchsorted(records.due_us, now_us, side="right")), most)

    def _send(self, records: Records, at: int, to: int) -> None:
        now_us = time.time_ns() // 1000
        due = records.due_us[at:to] + self._start_us
        if self._hurry:
            due = np.full(to - at, now_us)
        else:
            behind = now_us - due
            self._behind_us = int(behind[0])
            self._max_us = max(self._max_us, self._behind_us)
            counts = np.bincount(np.clip(behind // 1000, 0, _BINS - 1))
            self._late_ms[: len(counts)] += counts
        if self._tracker is not None:
            self._tracker.sending(records.partition[at:to], due)
        self._sink.put(records, at, to)
        self.sent += to - at
        if self._on_sent is not None:
            self._on_sent(records, at, to, due, now_us)

    def _wait(self) -> None:
        self._behind_us = 0
        # not shorter when something is due sooner: a call for each record of a slow stream would
        # cost a core
        time.sleep(TICK_SECONDS)

    def _tell(self, force: bool) -> None:
        now = time.monotonic()
        if self._tracker is None or not (force or now - self._told_at >= PROGRESS_SECONDS):
            return
        self._told_at = now
        partition, offset, scheduled = self._tracker.confirm(self._sink.acknowledged())
        if self._on_progress is not None:
            told = (
                self._tracker.sent,
                self._tracker.acknowledged,
                self._behind_us / 1000,
                now - self._began,
            )
            self._on_progress(Progress(*told, partition, offset, scheduled))

    def _behind(self) -> Behind:
        total = int(self._late_ms.sum())
        if not total:
            return Behind(0.0, 0.0)
        rank = int(np.searchsorted(np.cumsum(self._late_ms), -(-total * 99 // 100)))
        return Behind(self._max_us / 1000, min(float(rank + 1), self._max_us / 1000))
