"""What stands on the raw and on the clean topic, read back by plain fastavro.

No code of `flows/` decodes here, so a decoder that loses a field cannot hide it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from flows.domain.errors import TransientError
from flows.domain.family import Family
from flows.domain.web import WEB
from flows.runtime.settings import Settings
from shopstream.verify.plain_avro import PlainAvro, without_source

TIMEOUT_SECONDS = 20
POLL_SECONDS = 0.2
Coordinates = tuple[int, int]
"""Partition and offset of a raw record."""
Kind = tuple[str, bool]
"""The type of an event, and whether it has items: what conditions of rules ask for."""


@dataclass(frozen=True)
class RawRecord:
    """A raw record as the broker has it.

    Time: `timestamp` in Unix ms. `event` is the hash of the event; None where a plain reader
    cannot read one.
    """

    timestamp: int
    key: bytes | None
    payload_hash: bytes | None
    event: bytes | None
    kind: Kind | None


@dataclass(frozen=True)
class CleanEvent:
    """An accepted event: its raw record's timestamp (Unix ms), its number, its hash."""

    timestamp: int
    number: int
    event: bytes


@dataclass
class Seen:
    """Everything that was read, by the coordinates of the raw record."""

    raw: dict[Coordinates, RawRecord] = field(default_factory=dict)
    clean: dict[Coordinates, CleanEvent] = field(default_factory=dict)


class Followed:
    """Follow the topics of a family from their beginnings.

    An embedded broker keeps only the newest records, so a demo `follow`s in a thread; on a real one
    `until_the_end` reads what is there.

    State: some 200 bytes per record.
    Errors: TransientError when the broker does not answer.
    """

    def __init__(self, settings: Settings, family: Family = WEB) -> None:
        self._avro = PlainAvro(family.contract)
        self.seen = Seen()
        raw, clean = (settings.topic(f"topic_{kind}_{family.name}") for kind in ("raw", "clean"))
        self._take: Mapping[str, Callable[[Message], None]] = {
            raw: self._take_raw,
            clean: self._take_clean,
        }
        self._configuration = settings.kafka.client(
            {
                "group.id": settings.group("verify"),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # its default of 1,000 ms leaves a fast consumer idle for most of its time
                "fetch.queue.backoff.ms": 1,
                "fetch.message.max.bytes": 4_194_304,
            }
        )
        self._consumer = Consumer(self._configuration)
        self._next: dict[tuple[str, int], int] = {}
        for topic in self._take:
            try:
                metadata = self._consumer.list_topics(topic, timeout=TIMEOUT_SECONDS)
            except KafkaException as error:
                raise TransientError(
                    f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
                ) from error
            self._next |= {(topic, p): 0 for p in metadata.topics[topic].partitions}
        self._consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in self._next])
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._consumer.close()

    def follow(self) -> None:
        """Read on in a thread."""
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._poll()

    def _poll(self) -> None:
        for message in self._consumer.consume(10_000, POLL_SECONDS):
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if message.error() is not None or topic is None or partition is None or offset is None:
                continue
            self._take[topic](message)
            self._next[topic, partition] = offset + 1

    def _take_raw(self, message: Message) -> None:
        value, key = message.value(), message.key()
        event = self._avro.read(value)
        kind = None if event is None else (event.get("event_type", ""), bool(event.get("items")))
        record = RawRecord(
            message.timestamp()[1],
            key,
            None if value is None else blake2b(value, digest_size=16).digest(),
            None if event is None else digest(event),
            kind,
        )
        self.seen.raw[coordinates(message)] = record

    def _take_clean(self, message: Message) -> None:
        record = self._avro.read_own(message.value())
        for event in () if record is None else record.get("events", [record]):
            place = event["source_partition"], event["source_offset"]
            clean = CleanEvent(
                event["source_timestamp"],
                event.get("accepted", 0),
                digest(without_source(event)),
            )
            # a repeated one must be the same
            known = self.seen.clean.setdefault(place, clean)
            if known != clean:
                self.seen.clean[place] = CleanEvent(clean.timestamp, clean.number, b"two events")

    def _ends(self) -> dict[tuple[str, int], tuple[int, int]]:
        # through a consumer of its own: asked while another thread polls it, a consumer never
        # answers (confluent-kafka 2.16.1)
        consumer = Consumer(self._configuration)
        try:
            return {
                place: consumer.get_watermark_offsets(
                    TopicPartition(*place), timeout=TIMEOUT_SECONDS
                )
                for place in self._next
            }
        finally:
            consumer.close()

    def until_the_end(self) -> Seen:
        """Read up to where the topics end now, and give everything."""
        positions = {place: high for place, (low, high) in self._ends().items() if low < high}
        while any(self._next[place] < high for place, high in positions.items()):
            if self._thread is None:
                self._poll()
            else:
                self._stop.wait(0.05)
            if self._stuck_at_markers(positions):
                break
        return self.seen

    def _stuck_at_markers(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Tell whether only markers of transactions are left before the ends."""
        positions = self._consumer.position([TopicPartition(*place) for place in ends])
        return all(
            p.offset >= ends[p.topic, p.partition]
            for p in positions
            if self._next[p.topic, p.partition] < ends[p.topic, p.partition]
        )


def coordinates(message: Message) -> Coordinates:
    """Give where a record stands."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset


def digest(event: dict[str, Any]) -> bytes:
    """Hash an event, whatever the order of its fields."""
    return blake2b(repr(sorted(event.items())).encode(), digest_size=16).digest()
