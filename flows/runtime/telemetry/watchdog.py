"""Look at a flow from beside it, once per second.

Is it stuck, and how far has the topic gone on meanwhile?
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flows.connectors.kafka_cluster import Cluster
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.flow_observers import ProcessObserver
from flows.runtime.telemetry.health import Activity, Verdict

EVERY_SECONDS = 1.0
# A loop that has not come round for so long is held by a sink or a step, and the consumer's offsets
# stand still with it. A poll lasts milliseconds, and a large batch a fraction of a second.
HELD_SECONDS = 2.0
REQUEST_SECONDS = 5.0


class Ends:
    """Find where a topic ends, through a client of its own.

    The flow's consumer belongs to the thread that polls: called from another one it may never
    answer.
    """

    def __init__(self, kafka: Cluster) -> None:
        self._kafka = kafka
        self._client: AdminClient | None = None

    def of(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Map each partition to its end; empty while the broker does not answer."""
        if self._client is None:
            self._client = AdminClient(self._kafka.quiet_client())
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no annotations
        try:
            answers = self._client.list_offsets(
                {TopicPartition(topic, p): latest for p in partitions},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=REQUEST_SECONDS,
            )
            return {
                position.partition: answer.result(REQUEST_SECONDS).offset
                for position, answer in answers.items()
            }
        except (KafkaException, TimeoutError):
            return {}


class Watchdog:
    """Report when the verdict turns, and keep the lag true while the flow is held."""

    def __init__(
        self,
        verdict: Callable[[], Verdict],
        backlog: Backlog,
        activity: Activity,
        observer: ProcessObserver,
        ends: Callable[[], dict[int, int]],
    ) -> None:
        self._verdict, self._backlog, self._activity = verdict, backlog, activity
        self._observer, self._ends = observer, ends
        self._healthy: bool | None = None

    def start(self) -> None:
        """Begin to look, on a thread that ends with the process."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Look once."""
        if self._backlog.partitions() and time.monotonic() - self._activity.turned > HELD_SECONDS:
            self._backlog.look(self._ends(), time.time_ns() // 1_000_000)
        verdict = self._verdict()
        if self._healthy and not verdict.healthy:
            self._observer.stalled(verdict.line)
        if self._healthy is False and verdict.healthy:
            self._observer.recovered(verdict.line)
        self._healthy = verdict.healthy
