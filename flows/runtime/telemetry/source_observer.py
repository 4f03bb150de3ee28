"""What happens where a flow reads: each method writes the log line and the number of one event.

WARNING: nothing is lost; ERROR: something is, or a human is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError

from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.runtime.telemetry import logs, names
from flows.runtime.telemetry.activity import Activity
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.instruments import Instruments


class KafkaSourceObserver:
    """Listens to a KafkaSource."""

    def __init__(
        self, numbers: Instruments, backlog: Backlog, activity: Activity, log: Any
    ) -> None:
        self._numbers, self._backlog, self._activity, self._log = numbers, backlog, activity, log
        self._batch_records = numbers.series(names.BATCH_RECORDS)
        self._commit_seconds = numbers.series(names.COMMIT_SECONDS)
        self._retries = numbers.series(names.RETRIES, "kafka")
        self._looks: list[Callable[[], None]] = []
        self._rebuilding_since: float | None = None

    def each_turn(self, look: Callable[[], None]) -> None:
        self._looks.append(look)

    def reading(
        self, topic: str, starts: Mapping[int, Checkpoint], ends: Mapping[int, int]
    ) -> None:
        self._backlog.begin(topic, starts, ends)
        self._rebuilding_since = time.monotonic()
        for p, start in starts.items():
            self._numbers.series(names.REWIND_RECORDS, str(p)).set(start.resume - start.rewind)
        offsets = {
            p: {"rewind": s.rewind, "resume": s.resume, "end": ends[p]} for p, s in starts.items()
        }
        self._log.info(logs.READING, topic=topic, partitions=offsets)
        self._activity.where = "polling"

    def passed(self) -> None:
        activity = self._activity
        activity.where, activity.turned, activity.batch = "polling", time.monotonic(), None
        self._backlog.passed()
        if self._rebuilding_since is not None and not self._backlog.rebuilding():
            self._rebuilt(activity.turned - self._rebuilding_since)
        self._look_around()

    def _rebuilt(self, seconds: float) -> None:
        self._rebuilding_since = None
        self._numbers.series(names.REWIND_SECONDS).set(seconds)
        self._log.info("state is rebuilt", topic=self._backlog.topic, seconds=round(seconds, 3))

    def _look_around(self) -> None:
        for look in self._looks:
            look()

    def polled(self, batch: Batch, ends: Mapping[int, int]) -> None:
        self._look_around()
        stamp = time.time_ns() // 1_000_000
        if not len(batch):
            self._backlog.look(ends, stamp)
            return
        self._activity.batch = batch
        self._backlog.take(batch, ends, stamp)
        self._batch_records.observe(len(batch))

    def closing(self) -> None:
        self._activity.where = "the end of an epoch"
        self._backlog.closing()

    def committed(self, resumes: Mapping[int, int], seconds: float) -> None:
        self._backlog.committed(resumes)
        self._commit_seconds.observe(seconds)
        self._log.debug(
            "committed",
            topic=self._backlog.topic,
            partitions=dict(resumes),
            seconds=round(seconds, 4),
        )

    def drained(self) -> None:
        self._activity.where = "the last flush"
        self._backlog.closing()
        self._log.info(
            "draining: asked to stop", topic=self._backlog.topic, unread=self._backlog.unread()
        )

    def nothing_readable(self, partition: int, end: int) -> None:
        self._backlog.nothing_readable(partition, end)

    def broker_silent(self, bootstrap: str, error: str) -> None:
        self._retries.inc()
        self._activity.where = f"waiting for Kafka at {bootstrap}"
        self._log.warning(
            "Kafka does not answer yet, asking again", bootstrap=bootstrap, error=error
        )

    def group_silent(self, group: str, error: str) -> None:
        self._retries.inc()
        self._activity.where = f"waiting for the coordinator of {group}"
        self._log.warning(
            "Kafka does not say yet where the group stands, asking again", group=group, error=error
        )

    def kafka_error(self, error: KafkaError) -> None:
        self._retries.inc()
        self._log.warning(
            "the Kafka client has trouble, and tries again", code=error.name(), error=error.str()
        )

    def record_error(self, topic: str, error: KafkaError) -> None:
        self._retries.inc()
        self._log.warning(
            "a poll brought an error, and goes on",
            topic=topic,
            code=error.name(),
            error=error.str(),
        )

    def foreign_commit(self, topic: str, partition: int, metadata: str) -> None:
        self._log.warning(
            "the commit of another program is taken without its note",
            topic=topic,
            partition=partition,
            metadata=metadata,
        )

    def records_gone(self, topic: str, partition: int, first: int, last: int) -> None:
        self._log.error(
            "records were deleted by retention before they were read",
            topic=topic,
            partition=partition,
            offsets=(first, last),
        )

    def state_gone(self, topic: str, partition: int, before: int) -> None:
        self._log.warning(
            "state is gone with records that retention deleted",
            topic=topic,
            partition=partition,
            before=before,
        )

    def setting_changed(self, topic: str, partition: int, name: str, was: int, now: int) -> None:
        self._log.warning(
            "a setting that rows depend on has changed: windows and ids around this restart were"
            " judged by both",
            topic=topic,
            partition=partition,
            setting=name,
            was=was,
            now=now,
        )
