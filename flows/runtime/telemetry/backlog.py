"""How far a flow is behind its topic: a place a partition, told by the thread that polls and asked
by those that serve.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint


@dataclass
class Place:
    """Where a partition stands. Units: offsets; times in Unix ms.

    `end` is after the newest record that the broker told of, `position` after the last that went
    through the flow, `taken` after the last that is being worked on. Before `resume` everything was
    in the outputs at the start already.
    """

    resume: int
    end: int
    position: int
    taken: int
    committed: int
    working_on: int | None = None
    last_read: int | None = None
    drained_at: int | None = None

    @property
    def unread(self) -> int:
        return max(0, self.end - max(self.position, self.resume))

    def age(self, now: int) -> float | None:
        """Seconds that the oldest unread record has waited; at most that, where it was not seen
        yet.
        """
        if not self.unread:
            return 0.0
        known = [t for t in (self.last_read, self.drained_at) if t is not None]
        since = self.working_on if self.working_on is not None else max(known, default=None)
        return None if since is None else max(0, now - since) / 1000


class Backlog:
    """The places of all partitions of a process.

    Time: every `now` is the caller's, in ms.
    """

    def __init__(self) -> None:
        self.topic = ""
        self._places: dict[int, Place] = {}
        self._lock = threading.Lock()
        self._closing = False

    def begin(self, topic: str, starts: Mapping[int, Checkpoint], ends: Mapping[int, int]) -> None:
        """Begin at `rewind`, to speak from `resume` on."""
        with self._lock:
            self.topic = topic
            for p, start in starts.items():
                self._places[p] = Place(
                    start.resume, ends[p], start.rewind, start.rewind, start.resume
                )

    def take(self, batch: Batch, ends: Mapping[int, int], now: int) -> None:
        """A batch goes into the flow; `ends` are as the consumer knows them."""
        self.look(ends, now)
        with self._lock:
            for p, rows in batch.rows_by_partition.items():
                place = self._places[p]
                first, last = rows[0], rows[-1]
                if (
                    batch.offset[first] < place.resume
                ):  # some of them are read again, and wait for nothing
                    news = rows[batch.offset[rows] >= place.resume]
                    first = news[0] if len(news) else None
                place.working_on = None if first is None else int(batch.timestamp[first])
                place.last_read = int(batch.timestamp[last])
                place.taken = int(batch.offset[last]) + 1
                place.end = max(place.end, place.taken)

    def look(self, ends: Mapping[int, int], now: int) -> None:
        """Hear where the partitions end, whether or not the flow works on something."""
        with self._lock:
            for p, end in ends.items():
                place = self._places[p]
                place.end = max(place.end, end)
                if place.end <= max(place.position, place.resume):
                    place.drained_at = now

    def nothing_readable(self, partition: int, end: int) -> None:
        """The client has read the partition to its end: what is left of it are a transaction's
        marks, and no record.
        """
        with self._lock:
            place = self._places[partition]
            if place.taken == place.position:
                place.position = place.taken = max(place.position, end)

    def passed(self) -> None:
        """What was taken has gone through every step."""
        with self._lock:
            self._closing = False
            for place in self._places.values():
                place.position, place.working_on = place.taken, None

    def closing(self) -> None:
        """An epoch ends: until the next poll, sinks write what they hold."""
        self._closing = True

    def committed(self, resumes: Mapping[int, int]) -> None:
        with self._lock:
            for p, resume in resumes.items():
                self._places[p].committed = resume

    def unread(self) -> dict[int, int]:
        with self._lock:
            return {p: place.unread for p, place in self._places.items()}

    def ages(self, now: int) -> dict[int, float]:
        """Seconds of lag, where they are known."""
        with self._lock:
            found = {p: place.age(now) for p, place in self._places.items()}
        return {p: age for p, age in found.items() if age is not None}

    def rebuilding(self) -> bool:
        with self._lock:
            return any(place.position < place.resume for place in self._places.values())

    def partitions(self) -> list[int]:
        return list(self._places)

    def work(self) -> tuple[int, int]:
        """What is done, as a number that only grows, and how many records wait for something to be
        done.

        While an epoch closes, what is read but not committed waits too.
        """
        with self._lock:
            places = list(self._places.values())
            done = sum(place.position + place.committed for place in places)
            waiting = sum(place.unread for place in places)
            if self._closing:
                waiting += sum(max(0, place.position - place.committed) for place in places)
        return done, waiting
