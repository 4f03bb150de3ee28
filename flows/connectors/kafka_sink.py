"""Write records to a topic, and hold the epoch until every one is acknowledged.

Delivery: at-least-once. `snapshot` flushes, so the offsets of an epoch are committed only when all
that came out of it is on the topic.
Back pressure: a full queue blocks the flow.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer

from flows.connectors.kafka_cluster import Cluster, Troubles
from flows.connectors.observers import TopicObserver
from flows.connectors.producers import PRODUCERS, Edge, RecordProducer, edge_of
from flows.connectors.records import AnyRecords, ColumnarRecords, Pulled, Records
from flows.domain.errors import PermanentError, TransientError

# The client warns at each start that a setting which we want is experimental.
_LOGGER = logging.getLogger("librdkafka.producer")
_LOGGER.addFilter(lambda line: "enable.gapless.guarantee" not in line.getMessage())
# A dead letter holds a record of up to 1 MB, its key and its reasons.
DEAD_LETTER_BYTES = 4_194_304
# Tallies are shown by the minute, so twice per second is enough.
PULL_SECONDS = 0.5
# Always waited in full: successes have no report that would end it.
QUEUE_FULL_SECONDS = 0.005


@dataclass(frozen=True)
class Destination:
    """The topic that a sink writes to, and how long it waits for it."""

    kafka: Cluster
    topic: str
    max_bytes: int = 1_048_576
    delivery_seconds: float = 120.0
    linger_ms: int = 1
    startup_seconds: float = 30.0
    edge: Edge = "client"


class KafkaSink(FixedPartitionedSink[Any, None]):
    """A topic as a sink of `Records`.

    With `pulled`, items only say that something may have changed: the records are taken from it
    every PULL_SECONDS at most, and once more before an epoch ends.
    """

    def __init__(
        self,
        destination: Destination,
        observer: TopicObserver,
        pulled: Pulled[Records] | None = None,
    ) -> None:
        self._arguments = (destination, observer, pulled)
        self.writer: Writer | None = None

    def list_parts(self) -> list[str]:
        """Name the one part: a single producer writes to all partitions."""
        return [self._arguments[0].topic]

    def open(self) -> Writer:
        """Connect and look for the topic; what is wrong shows now, before the flow runs."""
        if self.writer is None:
            self.writer = Writer(*self._arguments)
            self.writer.look_for_topic()
        return self.writer

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Writer:
        """Give the writer; it keeps nothing over a restart."""
        return self.open()


class Writer(StatefulSinkPartition[Any, None]):
    """Send records, and flush at the end of an epoch.

    Errors: TransientError when records stay unacknowledged for `delivery_seconds`; PermanentError
    when the broker will never take them (too large, no right, no topic).
    """

    def __init__(
        self, destination: Destination, observer: TopicObserver, pulled: Pulled[Records] | None
    ) -> None:
        self._destination = destination
        self._observer = observer
        self._pulled = pulled
        self._may_pull = False
        self._sent = 0
        # (how many messages were sent by then, their timestamps), oldest first
        self._unsettled: deque[tuple[int, np.ndarray]] = deque()
        self._written = time.monotonic()
        self._failure: KafkaError | None = None
        self._troubles = Troubles(observer.kafka_error)
        kind = PRODUCERS[edge_of(destination.edge)]
        self._producer: RecordProducer = kind(
            self._settings(), destination.topic, self._keep_failure, self._troubles, _LOGGER
        )
        observer.each_turn(self._settle)

    def _settings(self) -> dict[str, Any]:
        destination = self._destination
        return destination.kafka.client(
            {
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": destination.linger_ms,
                "batch.size": 524_288,
                "message.max.bytes": destination.max_bytes,
                # No record is given up for one that comes after it: a gap would pass for
                # repeats when the lost ones are said again. The patience is in `flush`, and
                # then this process ends, and with it everything that was on the way.
                "enable.gapless.guarantee": True,
                "message.timeout.ms": 0,
                # more waiting only takes memory: 560 MiB of clean with 100,000 and a queue of
                # 16 MB in front, 350 so
                "queue.buffering.max.messages": 40_000,
                "queue.buffering.max.kbytes": 65_536,
                # with idempotence a flush to zero proves all; callbacks for each success would
                # cost as much as sending
                "delivery.report.only.error": True,
            }
        )

    def look_for_topic(self) -> None:
        """Check that the topic is there.

        Errors: PermanentError for a missing topic, TransientError for a silent broker.
        """
        destination, topic = self._destination, self._destination.topic
        client = Producer(destination.kafka.client({"error_cb": self._troubles, "logger": _LOGGER}))
        try:
            metadata = client.list_topics(topic, timeout=destination.startup_seconds)
        except KafkaException as error:
            raise self._troubles.explain(destination.kafka, client, error) from error
        failure = metadata.topics[topic].error
        if failure is not None and failure.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise PermanentError(f"topic {topic} does not exist: run `python -m shopstream topics`")

    def _keep_failure(self, error: KafkaError) -> None:
        # the first one: later ones tend to be its consequences
        self._failure = self._failure or error

    def write_batch(self, items: list[Any]) -> None:
        """Send records, or pull them when it is time."""
        if self._pulled is None:
            for records in items:
                self._send(records)
            return
        self._may_pull = True
        if time.monotonic() - self._written >= PULL_SECONDS:
            self._pull()

    def _pull(self) -> None:
        if self._pulled is not None and self._may_pull:
            self._send(self._pulled.take())
        self._may_pull, self._written = False, time.monotonic()

    def _send(self, records: AnyRecords) -> None:
        topic, columns = self._destination.topic, ColumnarRecords.of(records)
        self._sent += len(columns)
        while len(columns):
            left, error = self._producer.produce(columns)
            if error is not None:
                self._observer.queue_full(topic)
                self._raise_unless_full(error)
            columns = columns[left]
            # Waiting for room is the back pressure: the flow polls nothing meanwhile.
            self._producer.poll(QUEUE_FULL_SECONDS if len(left) else 0)
        self._raise_if_failed()
        if records.timestamps is not None and len(records.timestamps):
            self._unsettled.append((self._sent, records.timestamps))

    def _settle(self) -> None:
        """Report which records are acknowledged by now."""
        # A success has no report of its own, but the producer's length is the number of messages
        # without an answer. They are taken for the newest ones. After 300 and then 200 messages,
        # with 120 of them unanswered, 380 are settled: the first 300 are acknowledged, the 200 not
        # yet.
        #
        # A broker answers the partitions at nearly the same time, so the order is wrong by little;
        # and only the latency histogram depends on it. What is committed depends on `flush`.
        if not self._unsettled:
            return
        self._producer.poll(0)
        settled = self._sent - len(self._producer)
        while self._unsettled and self._unsettled[0][0] <= settled:
            self._observer.acknowledged(self._unsettled.popleft()[1])

    def _raise_unless_full(self, error: KafkaError) -> None:
        if error.code() != KafkaError._QUEUE_FULL:
            raise PermanentError(
                f"topic {self._destination.topic} does not take a record: {error.str()}"
            )

    def _raise_if_failed(self) -> None:
        failure = self._failure
        if failure is None:
            return
        message = f"records for topic {self._destination.topic} were not delivered: {failure.str()}"
        timed_out = failure.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT)
        if timed_out or failure.retriable():
            raise TransientError(message)
        raise PermanentError(message)

    def flush(self) -> None:
        """Return when all that was written is acknowledged."""
        self._pull()
        if not len(self._producer):
            return self._raise_if_failed()
        topic, patience = self._destination.topic, self._destination.delivery_seconds
        with self._observer.waiting(topic), self._observer.flushing(topic):
            until = time.monotonic() + patience
            # a second at a time, so that a signal to the process is handled in between
            while (unanswered := self._producer.flush(1.0)) and self._failure is None:
                if time.monotonic() > until:
                    raise TransientError(
                        f"{unanswered} records for topic {topic} stay unacknowledged"
                    )
            self._raise_if_failed()
        self._settle()

    def snapshot(self) -> None:
        """Flush, so that the epoch ends only when all it made is on the topic."""
        self.flush()
