"""What happens where a flow reads and writes: one method per observation, log line and number.

They implement the protocols of connectors/observers.py. WARNING: nothing is lost; ERROR: something
is, or a human is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from confluent_kafka import KafkaError
from structlog.typing import FilteringBoundLogger

from flows.connectors.observers import UpsertCounts
from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.losses import Loss
from flows.runtime.telemetry import logs, names
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.health import Activity
from flows.runtime.telemetry.instruments import BatchHistogram, Instruments


class KafkaSourceObserver:
    """Observe a KafkaSource."""

    def __init__(
        self,
        instruments: Instruments,
        backlog: Backlog,
        activity: Activity,
        log: FilteringBoundLogger,
    ) -> None:
        self._instruments, self._backlog = instruments, backlog
        self._activity, self._log = activity, log
        self._batch_records = instruments.series(names.BATCH_RECORDS)
        self._commit_seconds = instruments.series(names.COMMIT_SECONDS)
        self._retries = instruments.series(names.RETRIES, "kafka")
        self._looks: list[Callable[[], None]] = []
        self._rebuilding_since: float | None = None

    def each_turn(self, look: Callable[[], None]) -> None:
        """Call `look` at each turn of the flow's loop, from now on."""
        self._looks.append(look)

    def reading(
        self,
        topic: str,
        starts: Mapping[int, Checkpoint],
        ends: Mapping[int, int],
        partitions: int,
    ) -> None:
        """Note that reading begins."""
        self._backlog.begin(topic, starts, ends)
        self._instruments.series(names.TOPIC_PARTITIONS, topic).set(partitions)
        self._instruments.series(names.LOST, topic)  # 0 is a number too
        self._rebuilding_since = time.monotonic()
        for p, start in starts.items():
            self._instruments.series(names.REWIND_RECORDS, str(p)).set(start.resume - start.rewind)
        offsets = {
            p: {"rewind": s.rewind, "resume": s.resume, "end": ends[p]} for p, s in starts.items()
        }
        self._log.info(logs.READING, topic=topic, partitions=offsets)
        self._activity.where = "polling"

    def passed(self, written: Mapping[int, int] | None = None) -> None:
        """Note that the loop came round: everything polled has gone through every step."""
        activity = self._activity
        activity.where, activity.turned, activity.batch = "polling", time.monotonic(), None
        self._backlog.passed(written)
        if self._rebuilding_since is not None and not self._backlog.rebuilding():
            self._rebuilt(activity.turned - self._rebuilding_since)
        self._look_around()

    def _rebuilt(self, seconds: float) -> None:
        self._rebuilding_since = None
        self._instruments.series(names.REWIND_SECONDS).set(seconds)
        self._log.info("state is rebuilt", topic=self._backlog.topic, seconds=round(seconds, 3))

    def _look_around(self) -> None:
        for look in self._looks:
            look()

    def polled(self, batch: Batch, ends: Mapping[int, int]) -> None:
        """Note what a poll brought; one without records is no batch."""
        # Before and after a poll: records are acknowledged while it waits.
        self._look_around()
        now = time.time_ns() // 1_000_000
        if not len(batch):
            self._backlog.look(ends, now)
            return
        self._activity.batch = batch
        self._backlog.take(batch, ends, now)
        self._batch_records.observe(len(batch))

    def closing(self) -> None:
        """Note that an epoch ends."""
        self._activity.where = "the end of an epoch"
        self._backlog.closing()

    def committed(self, resumes: Mapping[int, int], seconds: float) -> None:
        """Note a commit of offsets."""
        self._backlog.committed(resumes)
        self._commit_seconds.observe(seconds)
        self._log.debug(
            "committed",
            topic=self._backlog.topic,
            partitions=dict(resumes),
            seconds=round(seconds, 4),
        )

    def drained(self) -> None:
        """Note that nothing more is read, since the flow is to stop."""
        self._activity.where = "the last flush"
        self._backlog.closing()
        self._log.info(
            "draining: asked to stop", topic=self._backlog.topic, unread=self._backlog.unread()
        )

    def nothing_readable(self, partition: int, end: int) -> None:
        """Note that no record is left before the partition's end."""
        self._backlog.nothing_readable(partition, end)

    def log_starts_at(self, starts: Mapping[int, int]) -> None:
        """Note the oldest offset that the broker still holds, by partition."""
        self._backlog.log_starts_at(starts)

    def broker_silent(self, bootstrap: str, error: str) -> None:
        """Note that the start waits for a broker."""
        self._retries.inc()
        self._activity.where = f"waiting for Kafka at {bootstrap}"
        self._log.warning(
            "Kafka does not answer yet, asking again", bootstrap=bootstrap, error=error
        )

    def group_silent(self, group: str, error: str) -> None:
        """Note that the start waits for the coordinator of the group."""
        self._retries.inc()
        self._activity.where = f"waiting for the coordinator of {group}"
        self._log.warning(
            "Kafka does not say yet where the group stands, asking again", group=group, error=error
        )

    def kafka_error(self, error: KafkaError) -> None:
        """Note an error of the client that it mends itself."""
        self._retries.inc()
        self._log.warning(
            "the Kafka client has trouble, and tries again", code=error.name(), error=error.str()
        )

    def record_error(self, topic: str, error: KafkaError) -> None:
        """Note an error in the place of a record."""
        self._retries.inc()
        self._log.warning(
            "a poll brought an error, and goes on",
            topic=topic,
            code=error.name(),
            error=error.str(),
        )

    def foreign_commit(self, topic: str, partition: int, metadata: str) -> None:
        """Note a committed offset without a note of ours."""
        self._log.warning(
            "the commit of another program is taken without its note",
            topic=topic,
            partition=partition,
            metadata=metadata,
        )

    def lost(self, loss: Loss) -> None:
        """Note records that nobody has read, and nobody will."""
        self._instruments.series(names.LOST, loss.topic).inc(loss.records)
        self._activity.lost += loss.records
        self._log.error("records are lost", loss=str(loss))

    def cut_off(self, topic: str, partition: int, start: int, end: int) -> None:
        """Note that the log has lost what the outputs hold."""
        self._log.warning(
            "the end of the log was cut off; what was in it had been read",
            topic=topic,
            partition=partition,
            start=start,
            end=end,
        )

    def tables_behind(self, topic: str, partition: int, committed: int, stored: int) -> None:
        """Note that the tables hold less than was committed, so records are read again."""
        self._log.warning(
            "the database is behind what was committed: it is filled again from the log",
            topic=topic,
            partition=partition,
            committed=committed,
            stored=stored,
        )

    def state_gone(self, topic: str, partition: int, before: int) -> None:
        """Note that the state cannot be rebuilt as a whole."""
        self._log.warning(
            "state is gone with records that retention deleted",
            topic=topic,
            partition=partition,
            before=before,
        )

    def setting_changed(self, topic: str, partition: int, name: str, was: int, now: int) -> None:
        """Note that a setting that results depend on is not what it was."""
        self._log.warning(
            "a setting that rows depend on has changed: windows and ids around this restart were"
            " judged by both",
            topic=topic,
            partition=partition,
            setting=name,
            was=was,
            now=now,
        )


class SinkObserver:
    """Observe all sinks of a flow. `latency` is None where a flow's records are not events."""

    def __init__(
        self,
        instruments: Instruments,
        latency: BatchHistogram | None,
        source: KafkaSourceObserver,
        activity: Activity,
        log: FilteringBoundLogger,
    ) -> None:
        self._instruments, self._latency = instruments, latency
        self._activity, self._log = activity, log
        self._kafka = instruments.series(names.RETRIES, "kafka")
        self._database = instruments.series(names.RETRIES, "database")
        self._uncommitted: list[np.ndarray] = []
        self._submitted: list[np.ndarray] = []
        self._source = source

    def each_turn(self, look: Callable[[], None]) -> None:
        """Call `look` at each turn of the flow's loop, from now on."""
        self._source.each_turn(look)

    @contextmanager
    def waiting(self, sink: str) -> Iterator[None]:
        """Name what holds the flow; if that fails, the flow ends."""
        before = self._activity.where
        self._source.closing()  # what is read but not committed waits, too
        self._activity.where = f"the flush of {sink}"
        yield
        self._activity.where = before

    @contextmanager
    def flushing(self, sink: str) -> Iterator[None]:
        """Time a flush that succeeds; one that fails ends the flow."""
        began = time.perf_counter()
        yield
        self._instruments.series(names.FLUSH_SECONDS, sink).observe(time.perf_counter() - began)

    def acknowledged(self, timestamps: np.ndarray) -> None:
        """Note that the outputs of these raw records are there."""
        if self._latency is not None:
            self._latency.add_ages(time.time_ns() // 1_000_000, timestamps)

    def counted(self, timestamps: np.ndarray) -> None:
        """Note that these events are counted; they are visible when their rows are committed."""
        if len(timestamps):
            self._uncommitted.append(timestamps)

    def submitted(self) -> None:
        """Note that all that was counted is in the next flush."""
        self._submitted, self._uncommitted = self._submitted + self._uncommitted, []

    def rows_committed(self, changes: Mapping[str, UpsertCounts]) -> None:
        """Note a transaction, and with it all that was submitted before."""
        for table, counts in changes.items():
            for change, rows in (
                ("inserted", counts.inserted),
                ("updated", counts.updated),
                ("unchanged", counts.unchanged),
            ):
                self._instruments.series(names.ROWS, table, change).inc(rows)
        timestamps, self._submitted = self._submitted, []
        if timestamps:
            self.acknowledged(np.concatenate(timestamps))

    def database_silent(self, error: str) -> None:
        """Note that the sink waits for the database."""
        self._database.inc()
        self._log.warning("the database does not answer, trying again", error=error)

    def queue_full(self, topic: str) -> None:
        """Note that the sink waits for room in the producer's queue."""
        self._kafka.inc()
        self._log.debug("the producer's queue is full: the flow waits", topic=topic)

    def kafka_error(self, error: KafkaError) -> None:
        """Note an error of the client that it mends itself."""
        self._kafka.inc()
        self._log.warning(
            "the Kafka client has trouble, and tries again", code=error.name(), error=error.str()
        )
