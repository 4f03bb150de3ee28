"""Where records go: Kafka, a file, the terminal, or nowhere."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from generators.errors import ConfigError, UnreachableError
from generators.records import Answer, Records

EMBEDDED_PARTITIONS = 4
# Queued and unacknowledged: half of the client's own limit, because produce_batch would refuse a
# part of a batch at the limit, which could put a partition's records out of order.
MOST_QUEUED = 80_000
CONNECT_SECONDS = 15.0
FLUSH_SECONDS = 60.0
_LENGTHS = struct.Struct(">iii")


class Sink(Protocol):
    """Where records are sent, in order."""

    partitions: int

    def put(self, records: Records, first: int, last: int) -> None:
        """Take records [first, last) of a chunk."""

    def acknowledged(self) -> list[np.ndarray]:
        """Give the new offsets of each partition since the last call, in order."""

    def finish(self) -> None:
        """Return once everything is delivered."""


class KafkaSink:
    """Produce to a topic.

    Delivery: idempotent producer, so the reports of a partition come in the order of its records
    (test_offsets_come_back_in_order).
    Errors: ConfigError for a topic that does not exist, UnreachableError for a record that was not
    delivered.
    """

    def __init__(self, client: Mapping[str, str], topic: str, reported: str) -> None:
        self._topic, self._failed = topic, ""
        self._offsets: list[list[int]] = []
        self._producer = Producer(
            {
                **client,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 2 * MOST_QUEUED,
                "queue.buffering.max.kbytes": 1_048_576,
                "message.timeout.ms": 60_000,
                "delivery.report.only.error": reported == "errors",
                "partitioner": "murmur2_random",
                "log_level": 2,
            }
        )
        try:
            metadata = self._producer.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
            if metadata.error is not None:  # an embedded broker makes the topic on this first use
                metadata = self._producer.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
        except KafkaException as error:
            raise UnreachableError(
                f"KAFKA_BOOTSTRAP_SERVERS {client['bootstrap.servers']}: {error.args[0].str()}"
            ) from error
        if metadata.error is not None:
            raise ConfigError(
                f"topic {topic}: {metadata.error.str()} (make it with: shopstream topics)"
            )
        self.partitions = len(metadata.partitions)
        self._offsets = [[] for _ in range(self.partitions)]

    def put(self, records: Records, first: int, last: int) -> None:
        """Queue records [first, last), waiting for room."""
        partition = records.partition[first:last]
        for number in range(self.partitions):
            # One call per partition: produce_batch ignores a partition that stands in a message
            # (confluent-kafka 2.16.1).
            rows = (np.flatnonzero(partition == number) + first).tolist()
            if rows:
                self._produce(
                    number, [{"value": records.values[n], "key": records.keys[n]} for n in rows]
                )
        self._producer.poll(0)
        self._raise_failure()

    def _produce(self, partition: int, messages: list[dict[str, Any]]) -> None:
        while len(self._producer) > MOST_QUEUED:
            self._producer.poll(0.01)
            self._raise_failure()
        while True:
            try:
                accepted = self._producer.produce_batch(
                    self._topic, messages, partition=partition, on_delivery=self._delivered
                )
                break
            except BufferError:
                self._producer.poll(0.01)
        if accepted != len(messages):
            reason = next(message["_error"] for message in messages if "_error" in message)
            raise UnreachableError(
                f"{len(messages) - accepted} records were not taken by the client: {reason}"
            )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or f"a record was not delivered: {error.str()}"
        else:
            self._offsets[message.partition() or 0].append(message.offset() or 0)

    def _raise_failure(self) -> None:
        if self._failed:
            raise UnreachableError(self._failed)

    def acknowledged(self) -> list[np.ndarray]:
        """Give the offsets that the broker confirmed since the last call."""
        self._producer.poll(0)
        self._raise_failure()
        confirmed, self._offsets = self._offsets, [[] for _ in range(self.partitions)]
        return [np.array(offsets, dtype=np.int64) for offsets in confirmed]

    def finish(self) -> None:
        """Wait until everything is delivered."""
        undelivered = self._producer.flush(FLUSH_SECONDS)
        self._raise_failure()
        if undelivered:
            raise UnreachableError(
                f"{undelivered} records are still undelivered after {FLUSH_SECONDS:.0f} s"
            )


class _OffsetCounter:
    """Give out offsets as a broker would, for sinks that have none.

    State: the next offset of each partition, and the first that was not reported yet.
    """

    def __init__(self, partitions: int) -> None:
        self.next = np.zeros(partitions, dtype=np.int64)
        self._reported = self.next.copy()

    def new(self) -> list[np.ndarray]:
        """Give each partition's offsets since the last call."""
        bounds = zip(self._reported.tolist(), self.next.tolist(), strict=True)
        offsets = [np.arange(first, last) for first, last in bounds]
        self._reported = self.next.copy()
        return offsets


class FileSink:
    """Write records to a file, with offsets as a broker would give them.

    Shape: avro: big-endian partition, key length, value length (-1: null), then key and value.
    json: one line per record with partition, offset, key, and `event`, or `value_base64` where no
    event can be read.
    """

    def __init__(self, file: IO[bytes], form: str, partitions: int = EMBEDDED_PARTITIONS) -> None:
        self.partitions = partitions
        self._file, self._form = file, form
        self._offsets = _OffsetCounter(partitions)
        self._answers: Iterator[Answer] | None = None
        self._answered: Records | None = None

    def put(self, records: Records, first: int, last: int) -> None:
        """Write records [first, last)."""
        if self._form == "json" and records is not self._answered:
            self._answered = records
            self._answers = records.answers.rows() if records.answers else None
        partitions = records.partition[first:last].tolist()
        for index, partition in zip(range(first, last), partitions, strict=True):
            key, value = records.keys[index], records.values[index]
            if self._form == "json":
                self._write_line(partition, key, value)
            else:
                self._file.write(
                    _LENGTHS.pack(partition, len(key), -1 if value is None else len(value))
                )
                self._file.write(key + (value or b""))
            self._offsets.next[partition] += 1

    def _write_line(self, partition: int, key: bytes, value: bytes | None) -> None:
        line: dict[str, Any] = {
            "partition": partition,
            "offset": int(self._offsets.next[partition]),
            "key": key.decode(),
        }
        event = next(self._answers)[0] if self._answers is not None else None
        if event is not None:
            line["event"] = event
        else:
            line["value_base64"] = None if value is None else base64.b64encode(value).decode()
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def acknowledged(self) -> list[np.ndarray]:
        """Give the offsets of the records that were written since the last call."""
        return self._offsets.new()

    def finish(self) -> None:
        """Flush the file; the caller, who opened it, closes it."""
        self._file.flush()


class NullSink:
    """Count records and drop them, to see the speed of the generator alone."""

    def __init__(self, partitions: int = EMBEDDED_PARTITIONS) -> None:
        self.partitions = partitions
        self._offsets = _OffsetCounter(partitions)

    def put(self, records: Records, first: int, last: int) -> None:
        """Count records [first, last)."""
        counts = np.bincount(records.partition[first:last], minlength=self.partitions)
        self._offsets.next += counts

    def acknowledged(self) -> list[np.ndarray]:
        """Give the offsets of the records that were dropped since the last call."""
        return self._offsets.new()

    def finish(self) -> None:
        """Do nothing."""
