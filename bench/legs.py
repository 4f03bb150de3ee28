"""Where the time between due and visible went, from the timestamps of the records themselves.

due ──> appended to the raw topic ──> record of the clean topic made ──> row visible
sending                     cleaning                          counting
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from bench.errors import BenchError
from bench.sandbox import Sandbox
from flows.connectors.avro.readers import CleanReader
from flows.connectors.kafka_source import batch_of
from flows.domain.families import BY_NAME

LEGS = ("sending", "cleaning", "counting")
PATIENCE_SECONDS = 30.0

Times = dict[int, tuple[np.ndarray, np.ndarray]]
"""By partition: raw offsets, ascending, and when something was done with them, in Unix ms."""


def legs_of(sandbox: Sandbox, due: Times, visible: Times) -> dict[str, dict[str, float]]:
    """Give the median and the 99th percentile of each leg, in ms.

    Errors: BenchError when a topic cannot be read to its end.
    """
    settings = sandbox.settings
    raw = raw_times(settings.kafka.quiet_client(), settings.topic("topic_raw_web"))
    clean = clean_times(settings.kafka.quiet_client(), settings.topic("topic_clean_web"))
    parts: list[np.ndarray] = []
    for partition, (offsets, due_ms) in due.items():
        stations = [due_ms]
        for times in (raw, clean, visible):
            known, at = times[partition]
            stations.append(at[np.searchsorted(known, offsets)])
        parts.append(np.diff(np.array(stations, np.float64), axis=0))
    every = np.concatenate(parts, axis=1)
    return {
        leg: dict(zip(("p50", "p99"), np.percentile(ms, [50, 99]).round(1).tolist(), strict=True))
        for leg, ms in zip(LEGS, every, strict=True)
    }


def raw_times(client: dict[str, str], topic: str) -> Times:
    """Give when the broker appended each record."""
    offsets: dict[int, list[int]] = {}
    times: dict[int, list[int]] = {}
    for messages in _polls(client, topic):
        for message in messages:
            p = message.partition() or 0
            offsets.setdefault(p, []).append(message.offset() or 0)
            times.setdefault(p, []).append(message.timestamp()[1])
    return {p: (np.array(offsets[p]), np.array(times[p])) for p in offsets}


def clean_times(client: dict[str, str], topic: str) -> Times:
    """Give when clean made the record of each raw one."""
    reader = CleanReader(BY_NAME["web"])
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for messages in _polls(client, topic):
        batch = batch_of(messages, True)
        events = reader.read(batch).events
        rows, offsets = events["row"].to_numpy(), events["source_offset"].to_numpy()
        for p, own in batch.rows_by_partition.items():
            mine = np.isin(rows, own)
            parts.setdefault(p, []).append((offsets[mine], batch.timestamp[rows[mine]]))
    return {
        p: (np.concatenate([o for o, _ in part]), np.concatenate([t for _, t in part]))
        for p, part in parts.items()
    }


def _polls(client: dict[str, str], topic: str) -> Iterator[list[Message]]:
    """Read a topic to the end that it has now."""
    consumer = Consumer({**client, "group.id": "bench", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions
        positions = [TopicPartition(topic, p, 0) for p in partitions]
        left = sum(
            consumer.get_watermark_offsets(p, timeout=PATIENCE_SECONDS)[1] for p in positions
        )
        consumer.assign(positions)
        until = time.monotonic() + PATIENCE_SECONDS
        while left > 0:
            messages = [m for m in consumer.consume(10_000, 1.0) if m.error() is None]
            left -= len(messages)
            if time.monotonic() > until:
                raise BenchError(f"{topic} cannot be read to its end: {left} records are left")
            if messages:
                yield messages
    except KafkaException as error:
        raise BenchError(f"{topic} cannot be read: {error.args[0].str()}") from error
    finally:
        consumer.close()
