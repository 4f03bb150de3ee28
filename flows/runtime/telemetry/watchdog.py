"""Look at a flow from beside it, once a second: is it stuck, and how far has the topic gone on
meanwhile?
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flows.runtime.telemetry.activity import Activity
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.health import Verdict
from flows.runtime.telemetry.process_observer import ProcessObserver

EVERY_SECONDS = 1.0
# a loop that has not come round for so long is held by a sink or a step: the consumer's offsets
# stand still with it
HELD_SECONDS = 2.0
ASK_SECONDS = 5.0


class Ends:
    """Ask the broker where a topic ends, through a client of our own.

    The flow's consumer belongs to the thread that polls: asked from another one it may never
    answer.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client: AdminClient | None = None

    def of(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Partition -> its end; nothing while the broker does not answer."""
        if self._client is None:
            self._client = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions}
        try:
            answers = self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_SECONDS
            )
            return {
                place.partition: found.result(ASK_SECONDS).offset
                for place, found in answers.items()
            }
        except (KafkaException, TimeoutError):
            return {}


class Watchdog:
    """Tells when the verdict turns, and keeps lag true while the flow is held."""

    def __init__(
        self,
        verdict: Callable[[], Verdict],
        backlog: Backlog,
        activity: Activity,
        events: ProcessObserver,
        ends: Callable[[], dict[int, int]],
    ) -> None:
        self._verdict, self._backlog, self._activity, self._observer, self._ends = (
            verdict,
            backlog,
            activity,
            events,
            ends,
        )
        self._healthy: bool | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Once around."""
        if self._backlog.partitions() and time.monotonic() - self._activity.turned > HELD_SECONDS:
            self._backlog.look(self._ends(), time.time_ns() // 1_000_000)
        found = self._verdict()
        if self._healthy and not found.healthy:
            self._observer.stalled(found.line)
        if self._healthy is False and found.healthy:
            self._observer.recovered(found.line)
        self._healthy = found.healthy
