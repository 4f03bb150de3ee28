"""Which raw records came out of clean: read from the clean topic, as far back as it goes."""

from __future__ import annotations

import threading
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from flows.connectors.avro.readers import CleanReader
from flows.connectors.kafka_source import batch_of
from flows.domain.errors import TransientError
from flows.domain.family import Family
from flows.domain.web import WEB
from flows.runtime.settings import Settings

TIMEOUT_SECONDS = 20
POLL_SECONDS = 0.2
Coordinates = tuple[int, int]
"""Partition and offset of a record."""


class AcceptedOffsets:
    """Collect the coordinates of the raw record of every event on a clean topic.

    An embedded broker keeps only the newest records, so a demo `follow`s the topic from its start
    in a thread; on a real one `until_the_end` reads what is there.

    State: two integers per accepted record.
    Errors: TransientError when the broker does not answer.
    """

    def __init__(self, settings: Settings, family: Family = WEB) -> None:
        self._topic = settings.topic(f"topic_clean_{family.name}")
        self._reader = CleanReader(family)
        self._accepted: set[Coordinates] = set()
        self._configuration = {
            "bootstrap.servers": settings.bootstrap,
            "group.id": settings.group("verify"),
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            # its default of 1,000 ms leaves a fast consumer idle for most of its time
            "fetch.queue.backoff.ms": 1,
            "fetch.message.max.bytes": 4_194_304,
        }
        self._consumer = Consumer(self._configuration)
        try:
            metadata = self._consumer.list_topics(self._topic, timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise TransientError(
                f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
            ) from error
        self._next = dict.fromkeys(metadata.topics[self._topic].partitions, 0)
        self._consumer.assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in self._next]
        )
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
        self._thread = threading.Thread(target=self._run, name="accepted", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._poll()

    def _poll(self) -> None:
        messages = [m for m in self._consumer.consume(10_000, POLL_SECONDS) if m.error() is None]
        if not messages:
            return
        batch = batch_of(messages, True)
        events = self._reader.read(batch).events
        partitions, offsets = events["source_partition"], events["source_offset"]
        self._accepted.update(zip(partitions.to_list(), offsets.to_list(), strict=True))
        self._next |= {p: offset + 1 for p, offset in batch.last_offsets.items()}

    def _ends(self) -> dict[int, tuple[int, int]]:
        # through a consumer of its own: asked while another thread polls it, a consumer never
        # answers (confluent-kafka 2.16.1)
        consumer = Consumer(self._configuration)
        try:
            return {
                p: consumer.get_watermark_offsets(
                    TopicPartition(self._topic, p), timeout=TIMEOUT_SECONDS
                )
                for p in self._next
            }
        finally:
            consumer.close()

    def until_the_end(self) -> set[Coordinates]:
        """Read up to where the topic ends now, and give everything."""
        ends = self._ends()
        while any(self._next[p] < high and low < high for p, (low, high) in ends.items()):
            if self._thread is None:
                self._poll()
            else:
                self._stop.wait(0.05)
        return self._accepted
