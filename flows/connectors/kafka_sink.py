"""Write records to a topic, and hold the epoch until every one is acknowledged.

Delivery guarantees: at-least-once. `snapshot` flushes, so the offsets of an epoch are committed
only when all that came out of it is on the topic. Back pressure: a full queue blocks the flow.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flows.connectors.observers import TopicObserver
from flows.connectors.records import Pulled, Records
from flows.domain.errors import PermanentError, TransientError

# A dead letter holds a record of up to 1 MB, its key and its reasons.
DEAD_LETTER_BYTES = 4_194_304
PULL_SECONDS = 0.5


@dataclass(frozen=True)
class Destination:
    bootstrap: str
    topic: str
    max_bytes: int = 1_048_576
    delivery_seconds: float = 120.0
    linger_ms: int = 1
    startup_seconds: float = 30.0


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
        """Name the one part: the topic."""
        return [self._arguments[0].topic]

    def open(self) -> Writer:
        """Connect and look for the topic; what is wrong shows here, before the flow runs."""
        if self.writer is None:
            self.writer = Writer(*self._arguments)
            self.writer.look_for_topic()
        return self.writer

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Writer:
        """Give Bytewax the writer."""
        return self.open()


class Writer(StatefulSinkPartition[Any, None]):
    """Write records, and wait for the broker's word before an epoch ends.

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
        self._unsettled: deque[tuple[int, np.ndarray]] = deque()
        self._written = time.monotonic()
        self._failed: KafkaError | None = None
        self._producer = self._connect()
        observer.each_turn(self._settle)

    def _connect(self) -> Producer:
        destination = self._destination
        return Producer(
            {
                "bootstrap.servers": destination.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": destination.linger_ms,
                "batch.size": 524_288,
                "message.max.bytes": destination.max_bytes,
                "delivery.timeout.ms": int(destination.delivery_seconds * 1000),
                # more waiting only takes memory: 560 MiB of clean with 100,000 and a queue of 16 MB
                # in front, 350 so
                "queue.buffering.max.messages": 40_000,
                "queue.buffering.max.kbytes": 65_536,
                # with idempotence a flush to zero proves all; callbacks for each success would cost
                # as much as sending
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                "error_cb": self._observer.kafka_error,
                "logger": logging.getLogger("librdkafka"),
            }
        )

    def look_for_topic(self) -> None:
        """Errors: PermanentError for a missing topic, TransientError for a silent broker."""
        topic = self._destination.topic
        try:
            error = (
                self._producer.list_topics(topic, timeout=self._destination.startup_seconds)
                .topics[topic]
                .error
            )
        except KafkaException as raised:
            where = self._destination.bootstrap
            raise TransientError(
                f"Kafka at {where} does not answer: {raised.args[0].str()}"
            ) from raised
        if error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise PermanentError(f"topic {topic} does not exist: run `python -m shopstream topics`")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or error

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

    def _send(self, records: Records) -> None:
        for partition, messages in records.messages.items():
            self._sent += len(messages)
            self._send_to(partition, messages)
        if records.timestamps is not None and len(records.timestamps):
            self._unsettled.append((self._sent, records.timestamps))

    def _settle(self) -> None:
        """Tell what is acknowledged: successes have no report of their own, but the client says how
        many are missing.

        It is taken for the newest ones: a broker answers the partitions at nearly the same time.
        """
        if not self._unsettled:
            return
        self._producer.poll(0)
        settled = self._sent - len(self._producer)
        while self._unsettled and self._unsettled[0][0] <= settled:
            self._observer.acknowledged(self._unsettled.popleft()[1])

    def _send_to(self, partition: int, messages: list[dict[str, Any]]) -> None:
        while messages:
            sent = self._producer.produce_batch(
                self._destination.topic, messages, partition=partition
            )
            messages = [m for m in messages if m.get("_error")] if sent < len(messages) else []
            if messages:
                self._observer.queue_full(self._destination.topic)
            for message in messages:
                self._refuse_unless_full(message.pop("_error"))
            self._producer.poll(0.05 if messages else 0)
        self._check()

    def _refuse_unless_full(self, error: KafkaError) -> None:
        if error.code() != KafkaError._QUEUE_FULL:
            raise PermanentError(
                f"topic {self._destination.topic} does not take a record: {error.str()}"
            )

    def _check(self) -> None:
        if self._failed is None:
            return
        text = (
            f"records for topic {self._destination.topic} were not delivered: {self._failed.str()}"
        )
        if (
            self._failed.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT)
            or self._failed.retriable()
        ):
            raise TransientError(text)
        raise PermanentError(text)

    def flush(self) -> None:
        """Return when all that was written is acknowledged."""
        self._pull()
        if not len(self._producer):
            return self._check()
        with self._observer.flushing(self._destination.topic):
            until = time.monotonic() + self._destination.delivery_seconds + 5
            while (left := self._producer.flush(1.0)) and self._failed is None:
                if time.monotonic() > until:
                    raise TransientError(
                        f"{left} records for topic {self._destination.topic} stay unacknowledged"
                    )
            self._check()
        self._settle()

    def snapshot(self) -> None:
        self.flush()
