"""A consumer for one topic, and where its group begins to read.

A group's position in a partition is a checkpoint (domain/checkpoint.py): the committed offset is
`resume`, and the metadata of the commit are a JSON object of `rewind` and the note.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from flows.connectors.observers import SourceObserver
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import PermanentError, TransientError

# The statistics say what offsets do not: that the rest of a partition is no record. Each costs
# 0.1 ms.
STATISTICS_SECONDS = 2.0
FETCH_WAIT_MS = 500
# The embedded broker does not wake a fetch that waits when records come, so waiting is latency.
EMBEDDED_FETCH_WAIT_MS = 10
RETRY_SECONDS = 0.5
# The metadata of a new topic take a moment to reach all brokers.
NEW_TOPIC_SECONDS = 3.0


@dataclass(frozen=True)
class Subscription:
    """Which records a process reads, and under which group it commits.

    Of `count` processes this one owns the partitions p with p % count == ordinal.
    """

    bootstrap: str
    topic: str
    group: str
    ordinal: int = 0
    count: int = 1
    batch_records: int = 10_000
    poll_seconds: float = 0.02
    startup_seconds: float = 30.0
    commit_seconds: float = 30.0


@dataclass(frozen=True)
class Start:
    """Where reading a partition begins, and where the partition ends (exclusive) by then."""

    partition: int
    checkpoint: Checkpoint
    end: int


def connect(
    subscription: Subscription,
    callbacks: dict[str, Callable[..., None]],
    fetch_wait_ms: int = FETCH_WAIT_MS,
) -> Consumer:
    """Make a consumer that commits only what it is told to."""
    return Consumer(
        {
            "bootstrap.servers": subscription.bootstrap,
            "group.id": subscription.group,
            "enable.auto.commit": False,
            **callbacks,
            # with "latest" it would skip silently to the end when retention has overtaken us
            "auto.offset.reset": "error",
            # 1,000 by default: a fast consumer then sits idle four fifths of its time (0.34 against
            # 1.7 M records/s)
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": fetch_wait_ms,
            # counted by payload; the client's own record of a small message is three times as large
            "queued.max.messages.kbytes": 4_096,
            "fetch.message.max.bytes": 4_194_304,
            # a flow polls no more while its database is away, which may take hours
            "max.poll.interval.ms": 86_400_000,
            "socket.keepalive.enable": True,
            "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
            "logger": logging.getLogger("librdkafka"),
        }
    )


def is_embedded(consumer: Consumer, subscription: Subscription) -> bool:
    """Tell whether the broker is the one that is built into librdkafka."""
    cluster = consumer.list_topics(
        subscription.topic, timeout=subscription.startup_seconds
    ).cluster_id
    return cluster is not None and cluster.startswith("mockCluster")


def owned_partitions(
    consumer: Consumer, subscription: Subscription, observer: SourceObserver
) -> list[int]:
    """Give this process's share of the topic's partitions, once the broker knows the topic.

    Errors: PermanentError for a missing topic, TransientError for a silent broker.
    """
    return [
        p
        for p in _partitions_of(consumer, subscription, observer)
        if p % subscription.count == subscription.ordinal
    ]


def _partitions_of(
    consumer: Consumer, subscription: Subscription, observer: SourceObserver
) -> list[int]:
    topic, patience = subscription.topic, subscription.startup_seconds
    began = time.monotonic()
    while True:
        try:
            metadata = consumer.list_topics(topic, timeout=min(5.0, patience)).topics[topic]
        except KafkaException as error:
            reason = error.args[0].str()
            if time.monotonic() > began + patience:
                raise TransientError(
                    f"Kafka at {subscription.bootstrap} does not answer: {reason}"
                ) from error
            observer.broker_silent(subscription.bootstrap, reason)
            continue  # without a pause: the call has waited for its timeout
        if metadata.error is None:
            return sorted(metadata.partitions)
        waited = time.monotonic() - began
        if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            if waited >= NEW_TOPIC_SECONDS:
                raise PermanentError(
                    f"topic {topic} does not exist: run `python -m shopstream topics`"
                )
        elif waited > patience:
            raise TransientError(f"topic {topic}: {metadata.error.str()}")
        time.sleep(RETRY_SECONDS)


def starts_of(
    consumer: Consumer, subscription: Subscription, partitions: list[int], observer: SourceObserver
) -> list[Start]:
    """Find where the group goes on in each partition.

    Errors: TransientError for a silent broker, PermanentError for a topic that was made anew.
    """
    positions = _committed(consumer, subscription, partitions, observer)
    try:
        bounds = [
            consumer.get_watermark_offsets(position, timeout=subscription.startup_seconds)
            for position in positions
        ]
    except KafkaException as error:
        raise TransientError(
            f"Kafka at {subscription.bootstrap} does not say where {subscription.topic} ends:"
            f" {error.args[0].str()}"
        ) from error
    return [
        Start(position.partition, restored(position, low, high, observer), high)
        for position, (low, high) in zip(positions, bounds, strict=True)
    ]


def _committed(
    consumer: Consumer, subscription: Subscription, partitions: list[int], observer: SourceObserver
) -> list[TopicPartition]:
    until = time.monotonic() + subscription.startup_seconds
    while True:
        try:
            positions = consumer.committed(
                [TopicPartition(subscription.topic, p) for p in partitions],
                timeout=subscription.startup_seconds,
            )
            failure = first_failure(positions)
        except KafkaException as error:
            failure = error.args[0].str()
        if failure is None:
            return positions
        if time.monotonic() > until:
            raise TransientError(
                f"Kafka at {subscription.bootstrap} does not say where {subscription.group} stands:"
                f" {failure}"
            )
        # A broker that has just started, or just lost a peer, answers before the coordinator of
        # the group does.
        observer.group_silent(subscription.group, failure)
        time.sleep(RETRY_SECONDS)


def first_failure(positions: Iterable[TopicPartition]) -> str | None:
    """Give what went wrong with the first partition that has an error."""
    return next((p.error.str() for p in positions if p.error is not None), None)


def restored(position: TopicPartition, low: int, high: int, observer: SourceObserver) -> Checkpoint:
    """Read the checkpoint of a commit, for a partition that holds the offsets [low, high).

    What retention has deleted since is reported, never skipped in silence.

    Errors: PermanentError when the commit is beyond the end.
    """
    if position.offset in (OFFSET_INVALID, OFFSET_BEGINNING):
        return Checkpoint(low, low)  # the group has not committed yet
    try:
        note = {name: int(value) for name, value in json.loads(position.metadata or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        observer.foreign_commit(position.topic, position.partition, str(position.metadata))
        note = {}
    resume, rewind = position.offset, note.pop("rewind", position.offset)
    if resume > high:
        raise PermanentError(
            f"{position.topic} partition {position.partition}: offset {resume} is committed but the"
            f" topic ends at {high}: it was made anew."
            " Restore it, or begin anew as a whole: all four topics, their consumer groups and the"
            " schemas gold, quality and ops"
        )
    if resume < low:
        observer.records_gone(position.topic, position.partition, resume, low - 1)
    elif rewind < low:
        observer.state_gone(position.topic, position.partition, low)
    return Checkpoint(max(resume, low), max(rewind, low), note)


def position_of(topic: str, partition: int, checkpoint: Checkpoint) -> TopicPartition:
    """Give the commit that `restored` reads the checkpoint from."""
    metadata = json.dumps({"rewind": checkpoint.rewind} | checkpoint.note)
    return TopicPartition(topic, partition, checkpoint.resume, metadata=metadata)
