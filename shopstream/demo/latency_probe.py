"""Measure the time from when an event was due to be sent until its row can be read.

It is measured from outside, by a reader of the tables. An event is visible when `ops.progress` says
that its partition is complete up to its offset: that row is written in the same transaction as the
numbers.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import psycopg

from database.connection import connect

POLL_SECONDS = 0.01
RECENT_SECONDS = 5.0


@dataclass(frozen=True)
class Percentiles:
    """Latency of `count` events.

    Units: milliseconds.
    """

    count: int
    p50: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, milliseconds: np.ndarray) -> Percentiles | None:
        """Compute them; None of nothing."""
        if not len(milliseconds):
            return None
        return cls(len(milliseconds), *np.percentile(milliseconds, [50, 90, 99, 100]).tolist())


class LatencyProbe:
    """Watch rows become visible.

    Time: both ends by this machine's clock; the pause between two looks (10 ms) is part of it.
    State: what is sent but not yet visible, and one number per event that is.
    """

    def __init__(self, database_url: str, topic: str) -> None:
        self._url = database_url
        self._topic = topic
        self._lock = threading.Lock()
        self._waiting: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        self._looks: dict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
        self._visible: list[tuple[float, np.ndarray]] = []
        self._stop = threading.Event()
        self.first_row_at: float | None = None
        self._thread = threading.Thread(target=self._watch, name="latency", daemon=True)

    def __enter__(self) -> LatencyProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def sent(self, partition: np.ndarray, offset: np.ndarray, scheduled_us: np.ndarray) -> None:
        """Take in what was acknowledged, in offset order within a partition."""
        with self._lock:
            for p in np.unique(partition).tolist():
                of_partition = partition == p
                self._waiting[p].append((offset[of_partition], scheduled_us[of_partition]))
                self._match(p)

    def _watch(self) -> None:
        with connect(self._url, 10.0) as db:
            while not self._stop.wait(POLL_SECONDS):
                self._look(db)

    def _look(self, db: psycopg.Connection) -> None:
        query = (
            "SELECT partition, source_offset FROM ops.progress WHERE flow = 'metrics' AND"
            " source_topic = %s"
        )
        progress = db.execute(query, (self._topic,)).fetchall()
        now = time.time()
        for partition, offset in progress:
            with self._lock:
                offsets, times = self._looks[partition]
                if not offsets or offset > offsets[-1]:
                    offsets.append(offset)
                    times.append(now)
                    self.first_row_at = self.first_row_at or now
                    self._match(partition)

    def _match(self, partition: int) -> None:
        """Give every event the time of the first look that found its partition complete up to it.

        Events wait here for their row, and looks wait for their events: the generator reports
        acknowledgements a few times per second, often after the row was seen.
        """
        seen, times = self._looks[partition]
        waiting, self._waiting[partition] = self._waiting[partition], []
        for offsets, scheduled in waiting:
            look = np.searchsorted(seen, offsets, side="left")
            cut = int(np.searchsorted(look, len(seen), side="left"))
            if cut:
                visible_at = np.array(times)[look[:cut]]
                latency_ms = visible_at * 1000 - scheduled[:cut] / 1000
                self._visible.append((float(visible_at[-1]), latency_ms))
            if cut < len(offsets):
                self._waiting[partition].append((offsets[cut:], scheduled[cut:]))

    def recent(self) -> Percentiles | None:
        """Give the latency of what became visible in the last seconds."""
        with self._lock:
            since = time.time() - RECENT_SECONDS
            parts = [ms for at, ms in self._visible[-2000:] if at >= since]
        return Percentiles.of(np.concatenate(parts)) if parts else None

    def whole(self) -> Percentiles | None:
        """Give the latency of the whole run so far."""
        with self._lock:
            parts = [ms for _, ms in self._visible]
        return Percentiles.of(np.concatenate(parts)) if parts else None
