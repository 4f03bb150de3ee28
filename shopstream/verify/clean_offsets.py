"""Which raw records came out of clean: read from clean.web itself, as far back as it goes."""

from __future__ import annotations

import threading
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from flows.connectors.avro.readers import CleanReader
from flows.connectors.kafka_source import batch_of
from flows.domain.errors import TransientError
from flows.domain.web import WEB
from flows.runtime.settings import Settings

Place = tuple[int, int]


class AcceptedOffsets:
    """Collect (partition, offset) of the raw record of every event on clean.web.

    An embedded broker keeps only the newest records, so a demo `follow`s the topic from its start
    in a thread; on a real one `until_the_end` reads what is there.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic("topic_clean_web")
        self._reader = CleanReader(WEB)
        self._places: set[Place] = set()
        self._next: dict[int, int] = {}
        self._settings = {
            "bootstrap.servers": settings.bootstrap,
            "group.id": settings.group("verify"),
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 1,
            "fetch.message.max.bytes": 4_194_304,
        }
        self._consumer = Consumer(self._settings)
        try:
            partitions = (
                self._consumer.list_topics(self._topic, timeout=20).topics[self._topic].partitions
            )
        except KafkaException as error:
            raise TransientError(
                f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
            ) from error
        self._next = dict.fromkeys(partitions, 0)
        self._consumer.assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions]
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
            self._poll(0.2)

    def _poll(self, seconds: float) -> None:
        messages = [m for m in self._consumer.consume(10_000, seconds) if m.error() is None]
        if not messages:
            return
        batch = batch_of(messages, True)
        events = self._reader.read(batch).events
        self._places.update(
            zip(
                events["source_partition"].to_list(), events["source_offset"].to_list(), strict=True
            )
        )
        self._next |= {p: offset + 1 for p, offset in batch.last_offsets.items()}

    def _ends(self) -> dict[int, tuple[int, int]]:
        # a consumer of its own: asking the one that another thread polls never returned
        # (confluent-kafka 2.16.1)
        asker = Consumer(self._settings)
        try:
            return {
                p: asker.get_watermark_offsets(TopicPartition(self._topic, p), timeout=20)
                for p in self._next
            }
        finally:
            asker.close()

    def until_the_end(self) -> set[Place]:
        """Everything up to where the topic ends now."""
        ends = self._ends()
        while any(self._next[p] < high and low < high for p, (low, high) in ends.items()):
            if self._thread is None:
                self._poll(0.2)
            else:
                self._stop.wait(0.05)
        return self._places
