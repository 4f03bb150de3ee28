"""How far a flow is behind its topic, partition by partition.

Written by the thread that polls, read by the threads that serve.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint


@dataclass
class PartitionBacklog:
    """Where a partition stands.

    `end` is after the newest record that the broker has spoken of, `position` after the last that
    went through the flow and, where it writes tables, into them; `taken` after the last that was
    read. Everything before `resume` was in the outputs when the flow started.

    Units: offsets; times in Unix ms.
    """

    resume: int
    end: int
    position: int
    taken: int
    committed: int
    in_hand: deque[tuple[int, int | None]] = field(default_factory=deque)
    """Of each batch that is in hand: the place after it, and the Kafka timestamp of its oldest new
    record."""
    last_read: int | None = None
    """The Kafka timestamp of the last record that was read."""
    drained_at: int | None = None
    """When the partition was last seen read to its end."""
    oldest: int | None = None
    """The oldest offset that the broker still holds."""

    @property
    def working_on(self) -> int | None:
        """Give the Kafka timestamp of the oldest new record in hand."""
        return next((stamp for _, stamp in self.in_hand if stamp is not None), None)

    def pass_to(self, position: int) -> None:
        """Note that everything before the position has gone through."""
        self.position = position
        while self.in_hand and self.in_hand[0][0] <= position:
            self.in_hand.popleft()

    @property
    def unread(self) -> int:
        """The number of records that have not gone through the flow."""
        # What is read again before `resume` is no lag.
        return max(0, self.end - max(self.position, self.resume))

    def age(self, now: int) -> float | None:
        """Give the seconds that the oldest unread record has waited; None when nothing is known.

        Exact for what is being worked on, else an upper bound.
        """
        if not self.unread:
            return 0.0
        if self.working_on is not None:
            return max(0, now - self.working_on) / 1000
        # The oldest unread record was not seen yet. It came after the last one that was read, and
        # after the partition had nothing: so it is younger than either.
        bounds = [t for t in (self.last_read, self.drained_at) if t is not None]
        return max(0, now - max(bounds)) / 1000 if bounds else None


class Backlog:
    """The backlog of all partitions of a process.

    Time: every `now` is the caller's, in Unix ms.
    """

    def __init__(self) -> None:
        self.topic = ""
        self._partitions: dict[int, PartitionBacklog] = {}
        self._lock = threading.Lock()
        self._closing = False

    def begin(self, topic: str, starts: Mapping[int, Checkpoint], ends: Mapping[int, int]) -> None:
        """Begin each partition at `rewind`, with its records before `resume` done already."""
        with self._lock:
            self.topic = topic
            for p, start in starts.items():
                self._partitions[p] = PartitionBacklog(
                    start.resume, ends[p], start.rewind, start.rewind, start.resume
                )

    def take(self, batch: Batch, ends: Mapping[int, int], now: int) -> None:
        """Note that a batch goes into the flow; `ends` are as the consumer knows them."""
        self.look(ends, now)
        with self._lock:
            for p, rows in batch.rows_by_partition.items():
                partition = self._partitions[p]
                first, last = rows[0], rows[-1]
                if batch.offset[first] < partition.resume:
                    # records that are read again wait for nothing: the age is that of the new ones
                    new = rows[batch.offset[rows] >= partition.resume]
                    first = new[0] if len(new) else None
                partition.last_read = int(batch.timestamp[last])
                partition.taken = int(batch.offset[last]) + 1
                oldest = None if first is None else int(batch.timestamp[first])
                partition.in_hand.append((partition.taken, oldest))
                partition.end = max(partition.end, partition.taken)

    def look(self, ends: Mapping[int, int], now: int) -> None:
        """Note where the partitions end, whether or not the flow works on something."""
        with self._lock:
            for p, end in ends.items():
                partition = self._partitions[p]
                partition.end = max(partition.end, end)
                if partition.end <= max(partition.position, partition.resume):
                    partition.drained_at = now

    def log_starts_at(self, starts: Mapping[int, int]) -> None:
        """Note the oldest offset that the broker still holds, of the partitions that are read."""
        with self._lock:
            for p in starts.keys() & self._partitions.keys():
                self._partitions[p].oldest = starts[p]

    def logs(self) -> dict[int, tuple[int, int]]:
        """Map each partition to its log's first offset and its end, where they are known."""
        with self._lock:
            return {
                p: (partition.oldest, partition.end)
                for p, partition in self._partitions.items()
                if partition.oldest is not None
            }

    def nothing_readable(self, partition: int, end: int) -> None:
        """Note that a partition has no record up to its end, only markers of transactions."""
        with self._lock:
            backlog = self._partitions[partition]
            # Not while a batch is in hand: it has not gone through yet.
            if backlog.taken == backlog.position:
                backlog.position = backlog.taken = max(backlog.position, end)

    def passed(self, written: Mapping[int, int] | None = None) -> None:
        """Note that what was taken has gone through every step.

        With tables, `written` maps partitions to the place up to which they hold it.
        """
        with self._lock:
            self._closing = False
            for p, partition in self._partitions.items():
                if written is None:
                    partition.pass_to(partition.taken)
                else:
                    at_most = max(written.get(p, 0), partition.position)
                    partition.pass_to(min(partition.taken, at_most))

    def closing(self) -> None:
        """Note that an epoch ends: until the next poll, sinks write what they hold."""
        self._closing = True

    def committed(self, resumes: Mapping[int, int]) -> None:
        """Note how far each partition is committed."""
        with self._lock:
            for p, resume in resumes.items():
                self._partitions[p].committed = resume

    def unread(self) -> dict[int, int]:
        """Map each partition to the number of its records that have not gone through."""
        with self._lock:
            return {p: partition.unread for p, partition in self._partitions.items()}

    def ages(self, now: int) -> dict[int, float]:
        """Map each partition to its seconds of lag, where they are known."""
        with self._lock:
            ages = {p: partition.age(now) for p, partition in self._partitions.items()}
        return {p: age for p, age in ages.items() if age is not None}

    def rebuilding(self) -> bool:
        """Tell whether some partition is still read again, before its `resume`."""
        with self._lock:
            return any(p.position < p.resume for p in self._partitions.values())

    def partitions(self) -> list[int]:
        """Give the partitions that were begun."""
        return list(self._partitions)

    def work(self) -> tuple[int, int]:
        """Give the progress, a number that only grows, and how many records wait.

        While an epoch closes, what is read but not committed waits too: the sinks may hang.
        """
        with self._lock:
            partitions = list(self._partitions.values())
            progress = sum(p.position + p.committed for p in partitions)
            waiting = sum(p.unread for p in partitions)
            if self._closing:
                waiting += sum(max(0, p.position - p.committed) for p in partitions)
        return progress, waiting
