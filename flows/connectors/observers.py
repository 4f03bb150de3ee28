"""What connectors report: one method per thing that can happen.

Connectors know no runtime, so the observer is handed in; the runtime's own write the log line and
the number (runtime/telemetry/connector_observers.py). `NULL_OBSERVER` is for tools that write rows
and that nobody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from confluent_kafka import KafkaError

from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.losses import Loss


@dataclass(frozen=True)
class UpsertCounts:
    """What became of the rows that were sent to a table."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: UpsertCounts) -> UpsertCounts:
        return UpsertCounts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
        )


class SourceObserver(Protocol):
    """Observe a source that reads a topic; called by the thread that polls."""

    def reading(
        self,
        topic: str,
        starts: Mapping[int, Checkpoint],
        ends: Mapping[int, int],
        partitions: int,
    ) -> None:
        """Note that reading begins: partition -> checkpoint, partition -> end (exclusive).

        `partitions` is how many the topic has, whoever reads them.
        """

    def polled(self, batch: Batch, ends: Mapping[int, int]) -> None:
        """Note what a poll brought, and the ends that the client knows of."""

    def passed(self, written: Mapping[int, int] | None = None) -> None:
        """Note that everything that was polled has gone through every step.

        With tables, `written` maps partitions to the place up to which they hold it.
        """

    def closing(self) -> None:
        """Note that an epoch ends: sinks flush until the next poll."""

    def committed(self, resumes: Mapping[int, int], seconds: float) -> None:
        """Note a commit, and how long its answer took."""

    def drained(self) -> None:
        """Note that nothing more is read, since the flow is to stop."""

    def nothing_readable(self, partition: int, end: int) -> None:
        """Note that no record is left before the partition's end, whatever the offsets say."""

    def log_starts_at(self, starts: Mapping[int, int]) -> None:
        """Note the oldest offset that the broker still holds, by partition."""

    def broker_silent(self, bootstrap: str, error: str) -> None:
        """Note that a start waits for a broker."""

    def group_silent(self, group: str, error: str) -> None:
        """Note that a start waits for the coordinator of the group."""

    def kafka_error(self, error: KafkaError) -> None:
        """Note an error of the client that it mends itself."""

    def record_error(self, topic: str, error: KafkaError) -> None:
        """Note an error that came in the place of a record, and stops nothing."""

    def foreign_commit(self, topic: str, partition: int, metadata: str) -> None:
        """Note a committed offset without a note of ours."""

    def lost(self, loss: Loss) -> None:
        """Note records that were gone before they were read."""

    def cut_off(self, topic: str, partition: int, start: int, end: int) -> None:
        """Note that the log has lost offsets `[start, end)`, which the outputs hold."""

    def tables_behind(self, topic: str, partition: int, committed: int, stored: int) -> None:
        """Note that the tables hold less than was committed, so records are read again."""

    def state_gone(self, topic: str, partition: int, before: int) -> None:
        """Note that retention deleted records that the state depends on."""

    def setting_changed(self, topic: str, partition: int, name: str, was: int, now: int) -> None:
        """Note that a setting that results depend on is not what it was at the last commit."""


class TopicObserver(Protocol):
    """Observe a sink that writes records."""

    def waiting(self, sink: str) -> AbstractContextManager[None]:
        """Enclose the time in which the flow waits for a flush."""

    def flushing(self, sink: str) -> AbstractContextManager[None]:
        """Enclose a flush."""

    def acknowledged(self, timestamps: np.ndarray) -> None:
        """Note that the raw records with these Kafka timestamps (ms) are on the sink's topic."""

    def queue_full(self, topic: str) -> None:
        """Note that the producer's queue is full, so the flow waits."""

    def kafka_error(self, error: KafkaError) -> None:
        """Note an error of the client that it mends itself."""

    def each_turn(self, look: Callable[[], None]) -> None:
        """Call `look` at each turn of the flow's loop, from now on."""


class TableObserver(Protocol):
    """Observe a sink that writes rows beside the flow.

    `submitted` and `waiting` are told on the thread of the flow, the rest on that of the flush.
    """

    def submitted(self) -> None:
        """Note that all that was counted up to now is in the next flush."""

    def waiting(self, sink: str) -> AbstractContextManager[None]:
        """Enclose the time in which the flow waits for a flush."""

    def flushing(self, sink: str) -> AbstractContextManager[None]:
        """Enclose a flush."""

    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None:
        """Note a transaction: table -> what became of its rows."""

    def database_silent(self, error: str) -> None:
        """Note that the sink waits for the database."""


class NullObserver:
    """Observe a table sink that nobody watches."""

    def submitted(self) -> None:
        """Do nothing."""

    def waiting(self, sink: str) -> AbstractContextManager[None]:
        """Enclose the time in which the flow waits for a flush."""
        return nullcontext()

    def flushing(self, sink: str) -> AbstractContextManager[None]:
        """Enclose a flush."""
        return nullcontext()

    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None:
        """Do nothing."""

    def database_silent(self, error: str) -> None:
        """Do nothing."""


NULL_OBSERVER: TableObserver = NullObserver()
