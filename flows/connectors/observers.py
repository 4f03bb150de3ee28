"""What connectors tell of themselves: a method each thing that can happen. The runtime writes the
log line and the number.

Connectors know no runtime, so who listens is handed in; `NULL_OBSERVER` is for tools that write
rows and that nobody watches.
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


@dataclass(frozen=True)
class UpsertCounts:
    """What became of the rows that were sent to a table."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0


class SourceObserver(Protocol):
    """Told by the thread that polls."""

    def reading(
        self, topic: str, starts: Mapping[int, Checkpoint], ends: Mapping[int, int]
    ) -> None: ...
    def polled(self, batch: Batch, ends: Mapping[int, int]) -> None: ...
    def passed(self) -> None:
        """Everything that was polled has gone through every step."""

    def closing(self) -> None:
        """An epoch ends: sinks flush until the next poll."""

    def committed(self, resumes: Mapping[int, int], seconds: float) -> None: ...
    def drained(self) -> None: ...
    def nothing_readable(self, partition: int, end: int) -> None: ...
    def broker_silent(self, bootstrap: str, error: str) -> None: ...
    def group_silent(self, group: str, error: str) -> None: ...
    def kafka_error(self, error: KafkaError) -> None: ...
    def record_error(self, topic: str, error: KafkaError) -> None: ...
    def foreign_commit(self, topic: str, partition: int, metadata: str) -> None: ...
    def records_gone(self, topic: str, partition: int, first: int, last: int) -> None: ...
    def state_gone(self, topic: str, partition: int, before: int) -> None: ...
    def setting_changed(
        self, topic: str, partition: int, name: str, was: int, now: int
    ) -> None: ...


class TopicObserver(Protocol):
    """Told by a sink that writes records."""

    def flushing(self, sink: str) -> AbstractContextManager[None]: ...
    def acknowledged(self, stamps: np.ndarray) -> None:
        """The raw records with these Kafka timestamps (ms) are on the sink's topic."""

    def queue_full(self, topic: str) -> None: ...
    def kafka_error(self, error: KafkaError) -> None: ...
    def each_turn(self, look: Callable[[], None]) -> None:
        """Call `look` at each turn of the flow's loop."""


class TableObserver(Protocol):
    """Told by a sink that writes rows."""

    def flushing(self, sink: str) -> AbstractContextManager[None]: ...
    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None: ...
    def database_silent(self, error: str) -> None: ...


class NullObserver:
    """Nobody listens to this table sink."""

    def flushing(self, sink: str) -> AbstractContextManager[None]:
        return nullcontext()

    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None: ...
    def database_silent(self, error: str) -> None: ...


NULL_OBSERVER = NullObserver()
