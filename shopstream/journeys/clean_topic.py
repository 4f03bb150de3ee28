"""The events of one visitor, read back from the clean topic: as far back as it holds, each once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from flows.connectors.avro.readers import CleanReader
from flows.domain.batch import Batch
from flows.domain.errors import ConfigError, TransientError
from flows.domain.placement import partition_of
from flows.domain.web import WEB
from flows.runtime.settings import Settings
from shopstream.journeys.sessions import SessionEvent

Source = tuple[int, int, int]
"""Incarnation, partition and offset of a raw record."""

TIMEOUT_SECONDS, POLL_SECONDS = 20.0, 0.2
AT_ONCE = 10_000


def read(
    settings: Settings, topic: str, visitor: str, everywhere: bool
) -> tuple[list[int], list[SessionEvent]]:
    """Read a visitor's events from the partition of its key, or from all.

    Errors: ConfigError without the topic, TransientError when the broker does not answer.
    """
    consumer = Consumer(
        settings.kafka.client(
            {
                "group.id": settings.group("journeys"),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
    )
    try:
        known = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
        if not known:
            raise ConfigError(f"topic {topic} does not exist")
        own = [partition_of(visitor.encode(), len(known))]
        partitions = sorted(known) if everywhere else own
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        reader, once = CleanReader(WEB), dict[Source, SessionEvent]()
        for polled in to_the_end(consumer, set(partitions)):
            # what clean sent again after a crash is the same event
            once |= decoded(reader, polled, visitor)
    except KafkaException as error:
        raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return partitions, list(once.values())


def to_the_end(consumer: Consumer, unread: set[int]) -> Iterator[list[Any]]:
    """Give the records of what is assigned, poll by poll, until each partition was at its end.

    A partition that still gets records comes to an end more than once.
    """
    heard = time.monotonic()
    while unread:
        # it waits for so many records or for all of the time, so the time is short
        polled = consumer.consume(AT_ONCE, POLL_SECONDS)
        if polled:
            heard = time.monotonic()
        elif time.monotonic() > heard + TIMEOUT_SECONDS:
            raise TransientError(f"Kafka sent nothing for {TIMEOUT_SECONDS:g} s")
        yield [message for message in polled if message.error() is None]
        for message in polled:
            if (error := message.error()) is None:
                continue
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            unread = unread - {message.partition()}


def decoded(reader: CleanReader, messages: list[Any], visitor: str) -> dict[Source, SessionEvent]:
    """Decode records, and keep the visitor's events by where their raw records stand."""
    if not messages:
        return {}
    batch = Batch(
        np.array([m.partition() for m in messages], np.int32),
        np.array([m.offset() for m in messages], np.int64),
        np.array([m.timestamp()[1] for m in messages], np.int64),
        pa.array([m.key() for m in messages], pa.binary()),
        pa.array([m.value() for m in messages], pa.binary()),
        True,
    )
    events = reader.read(batch).events
    events = events.with_columns(events["event_time"].dt.epoch("ms").alias("time_ms"))
    found = {}
    for fields in events.filter(events["visitor_id"] == visitor).to_dicts():
        offset = fields["source_offset"]
        source = (fields["source_incarnation"], fields["source_partition"], offset)
        found[source] = SessionEvent(fields["time_ms"], offset, fields)
    return found
