"""What happens where a flow writes: each method writes the log line and the number of one event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from confluent_kafka import KafkaError

from flows.connectors.observers import UpsertCounts
from flows.runtime.telemetry import names
from flows.runtime.telemetry.activity import Activity
from flows.runtime.telemetry.instruments import BatchHistogram, Instruments


class SinkObserver:
    """Listens to all sinks of a flow. `latency` is None where a flow's records are not events."""

    def __init__(
        self,
        numbers: Instruments,
        latency: BatchHistogram | None,
        each_turn: Callable[[Callable[[], None]], None],
        activity: Activity,
        log: Any,
    ) -> None:
        self._numbers, self._latency, self._activity, self._log = numbers, latency, activity, log
        self._kafka = numbers.series(names.RETRIES, "kafka")
        self._database = numbers.series(names.RETRIES, "database")
        self._uncommitted: list[np.ndarray] = []
        self.each_turn = each_turn

    @contextmanager
    def flushing(self, sink: str) -> Iterator[None]:
        """Time a flush that succeeds; one that fails ends the flow."""
        before, self._activity.where = self._activity.where, f"the flush of {sink}"
        began = time.perf_counter()
        yield
        self._numbers.series(names.FLUSH_SECONDS, sink).observe(time.perf_counter() - began)
        self._activity.where = before

    def acknowledged(self, stamps: np.ndarray) -> None:
        if self._latency is not None:
            self._latency.add_ages(time.time_ns() // 1_000_000, stamps)

    def counted(self, stamps: np.ndarray) -> None:
        """Events with these stamps are counted; they are visible when the rows are committed."""
        if len(stamps):
            self._uncommitted.append(stamps)

    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None:
        for table, change in changes.items():
            for what, rows in (
                ("inserted", change.inserted),
                ("updated", change.updated),
                ("unchanged", change.unchanged),
            ):
                self._numbers.series(names.ROWS, table, what).inc(rows)
        waited, self._uncommitted = self._uncommitted, []
        if waited:
            self.acknowledged(np.concatenate(waited))

    def database_silent(self, error: str) -> None:
        self._database.inc()
        self._log.warning("the database does not answer, trying again", error=error)

    def queue_full(self, topic: str) -> None:
        self._kafka.inc()
        self._log.debug("the producer's queue is full: the flow waits", topic=topic)

    def kafka_error(self, error: KafkaError) -> None:
        self._kafka.inc()
        self._log.warning(
            "the Kafka client has trouble, and tries again", code=error.name(), error=error.str()
        )
