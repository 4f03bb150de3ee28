"""A consumer for one topic, and where its group begins to read.

A group's position in a partition is a checkpoint (domain/checkpoint.py): the committed offset is
`resume`, and the metadata of the commit are a JSON object of `rewind` and the note.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from flows.connectors import kafka_topics
from flows.connectors.kafka_topics import BROKER_TIME, TopicId
from flows.connectors.observers import SourceObserver
from flows.domain.checkpoint import Checkpoint, at_resume
from flows.domain.errors import PermanentError, TransientError
from flows.domain.incarnation import after_a_cut
from flows.domain.losses import Cause, Loss, told

# The statistics say what offsets do not: that the rest of a partition is no record. Each costs
# 0.1 ms.
STATISTICS_SECONDS = 2.0
FETCH_WAIT_MS = 500
# The embedded broker does not wake a fetch that waits when records come, so waiting is latency.
EMBEDDED_FETCH_WAIT_MS = 10
RETRY_SECONDS = 0.5
PROBE_SECONDS = 0.05
PROBE_ANSWERS = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)
# The metadata of a new topic take a moment to reach all brokers.
NEW_TOPIC_SECONDS = 3.0


@dataclass(frozen=True)
class Subscription:
    """Which records a process reads, and under which group it commits.

    Of `count` processes this one owns the partitions p with p % count == ordinal. With `goes_on`,
    records that were gone before they were read are told and passed over. With `broker_time`, a
    topic whose producers stamp its records is refused.
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
    goes_on: bool = False
    is_raw: bool = False
    broker_time: bool = False

    def owns(self, partition: int) -> bool:
        """Tell whether a partition is this process's."""
        return partition % self.count == self.ordinal

    @property
    def flow(self) -> str:
        """Name the flow that the group is of."""
        return self.group.rpartition(".")[2]


@dataclass(frozen=True)
class Commit:
    """A group's place in a partition: the checkpoint, the topic's id as text, the leader's epoch.

    `consent` says that the operator lets the flow pass over what is lost.
    """

    checkpoint: Checkpoint | None
    topic_id: str = ""
    epoch: int = -1
    consent: bool = False


@dataclass(frozen=True)
class Start:
    """Where reading a partition begins, and where the partition ends (exclusive) by then.

    `lost` is what was gone by then.
    """

    partition: int
    checkpoint: Checkpoint
    end: int
    lost: Loss | None = None
    epoch: int = -1
    is_news: bool = False
    """Whether the group has committed another place, or none, and is to commit this one."""


def connect(
    subscription: Subscription,
    callbacks: dict[str, Callable[..., None]],
    fetch_wait_ms: int = FETCH_WAIT_MS,
    end_is_told: bool = False,
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
            "enable.partition.eof": end_is_told,
            # counted by payload; the client's own record of a small message is three times as large
            "queued.max.messages.kbytes": 4_096,
            "fetch.message.max.bytes": 4_194_304,
            # a flow polls no more while its database is away, which may take hours
            "max.poll.interval.ms": 86_400_000,
            "socket.keepalive.enable": True,
            "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
            # partitions that are added are to be noticed within a minute; 300,000 by default
            "topic.metadata.refresh.interval.ms": 20_000,
            "logger": logging.getLogger("librdkafka"),
        }
    )


def is_embedded(consumer: Consumer, subscription: Subscription) -> bool:
    """Tell whether the broker is the one that is built into librdkafka."""
    cluster = consumer.list_topics(
        subscription.topic, timeout=subscription.startup_seconds
    ).cluster_id
    return cluster is not None and cluster.startswith("mockCluster")


def partitions_of(
    consumer: Consumer, subscription: Subscription, observer: SourceObserver
) -> list[int]:
    """Give the topic's partitions, once the broker knows the topic.

    Errors: PermanentError for a missing topic, TransientError for a silent broker.
    """
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


@dataclass(frozen=True)
class Topic:
    """The topic of a subscription as it is now.

    `id` is None where the broker tells none, as the embedded one does.
    """

    subscription: Subscription
    id: TopicId | None
    stored: Mapping[int, Checkpoint] | None = None
    """What the tables say of where their rows stand; None for a flow without tables."""

    @property
    def incarnation(self) -> int:
        """Number the topic's first generation."""
        return kafka_topics.incarnation(self.id)


def topic_id_of(subscription: Subscription) -> TopicId | None:
    """Give the topic's id, and refuse a topic whose clock is not the broker's where that matters.

    Errors: PermanentError, TransientError.
    """
    client = AdminClient({"bootstrap.servers": subscription.bootstrap, "log_level": 0})
    topic, patience = subscription.topic, subscription.startup_seconds
    if subscription.broker_time:
        stamped_by = kafka_topics.stamped_by(client, topic, patience)
        if stamped_by != BROKER_TIME:
            raise PermanentError(
                f"topic {topic}: message.timestamp.type is {stamped_by}, so one producer with a"
                f" wrong clock can make a whole partition late: set {BROKER_TIME} (`python -m"
                " shopstream topics`), or SHOPSTREAM_PRODUCER_TIMESTAMPS=trust"
            )
    return kafka_topics.topic_ids(client, [topic], patience).get(topic)


def starts_of(
    consumer: Consumer, topic: Topic, partitions: list[int], observer: SourceObserver
) -> list[Start]:
    """Find where the group goes on in each partition.

    Errors: TransientError for a silent broker, PermanentError for a topic that was made anew, and
    for records that are gone.
    """
    subscription = topic.subscription
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
    cuts = {} if topic.id is None else cuts_of(subscription, positions)
    starts = [
        start_of(topic, position, (low, cuts.get(position.partition, high)), observer)
        for position, (low, high) in zip(positions, bounds, strict=True)
    ]
    losses = [start.lost for start in starts if start.lost is not None]
    # What was cut off a topic of ours was read before, and is in the outputs. That a raw topic
    # gives its offsets twice needs an operator.
    consents = {p.partition: read_commit(p).consent for p in positions}
    unwanted = [
        loss
        for loss in losses
        if not consents[loss.partition] and (subscription.is_raw or loss.cause is not Cause.CUT)
    ]
    if unwanted and not subscription.goes_on:
        raise PermanentError(lost_line(subscription, unwanted))
    return starts


def lost_line(subscription: Subscription, losses: Iterable[Loss]) -> str:
    """Say what is lost, and what to do."""
    return (
        f"records were gone before {subscription.flow} had read them: {told(losses)}. `shopstream"
        f" accept-loss {subscription.flow}` goes on without them, and keeps them in ops.losses"
    )


def start_of(
    topic: Topic, position: TopicPartition, bounds: tuple[int, int], observer: SourceObserver
) -> Start:
    """Find where to begin a partition, of whose offsets `[low, end)` are those that were there.

    Errors: PermanentError for a commit of another topic of the name.
    """
    low, end = bounds
    p, name = position.partition, position.topic
    commit = read_commit(position, observer)
    written = kafka_topics.written(topic.id)
    if commit.topic_id and written and commit.topic_id != written:
        raise PermanentError(
            f"topic {name} was made anew since {topic.subscription.group} read it: `shopstream"
            " reattach` begins with the new one"
        )
    checkpoint = _lower(commit.checkpoint, topic, p, low, observer)
    note = {"incarnation": topic.incarnation} | checkpoint.note
    resume, rewind = checkpoint.resume, checkpoint.rewind
    if resume > end:
        loss = Loss(name, p, end, resume, resume - end, Cause.CUT, note["incarnation"])
        note |= at_resume(note)
        note |= {"incarnation": after_a_cut(note["incarnation"]), "accepted": 0}
        # Nothing before the cut is read again: its counts are told of the log as it was.
        return Start(p, Checkpoint(end, end, note), end, loss)
    if resume < low:
        # What was counted of the open minute before is not known, and cannot be read again: what
        # comes behind the gap gets a lane of its own, so that neither replaces the other.
        note |= at_resume(note)
        note |= {"incarnation": after_a_cut(note["incarnation"]), "accepted": 0}
        loss = Loss(name, p, resume, low, low - resume, Cause.DELETED, note["incarnation"])
        return Start(p, Checkpoint(low, low, note), end, loss)
    if rewind < low:
        observer.state_gone(name, p, low)
    is_stored = checkpoint is not commit.checkpoint and p in (topic.stored or {})
    return Start(p, Checkpoint(resume, max(rewind, low), note), end, None, commit.epoch, is_stored)


def cuts_of(subscription: Subscription, positions: list[TopicPartition]) -> dict[int, int]:
    """Give where the log ends of which the group has read, where that is before its commit.

    A broker that crashes can lose the end of a log. New records then take the same offsets, but
    they bear a later epoch of the leader: the client asks where the epoch of the commit ended
    (KIP-320).

    Errors: TransientError when the broker does not tell in time.
    """
    asked = {p.partition: p for p in positions if p.leader_epoch is not None and p.offset > 0}
    if not asked:
        return {}
    consumer = connect(subscription, {}, end_is_told=True)
    cuts: dict[int, int] = {}
    until = time.monotonic() + subscription.startup_seconds
    try:
        consumer.assign(
            [
                TopicPartition(p.topic, p.partition, p.offset, leader_epoch=p.leader_epoch)
                for p in asked.values()
            ]
        )
        while asked and time.monotonic() < until:
            for message in consumer.consume(100, PROBE_SECONDS):
                error, partition = message.error(), message.partition()
                if partition is None or (error is not None and error.code() not in PROBE_ANSWERS):
                    continue
                # else deleted, or behind the end: both are seen in the bounds
                if error is not None and (cut := cut_told_by(error)) is not None:
                    cuts[partition] = cut
                asked.pop(partition, None)
    finally:
        consumer.close()
    if asked:
        raise TransientError(
            f"Kafka at {subscription.bootstrap} does not say whether {subscription.topic} was cut"
        )
    return cuts


def cut_told_by(error: KafkaError) -> int | None:
    """Give where the log was cut; None for another error."""
    # the client has no code of its own for it, and tells the offset in words only
    if "truncation" not in error.str():
        return None
    found = re.search(r"broker end offset is (\d+)", error.str())
    if found is None:
        raise PermanentError(f"the log was cut before the committed offset: {error.str()}")
    return int(found[1])


def _lower(
    committed: Checkpoint | None, topic: Topic, p: int, low: int, observer: SourceObserver
) -> Checkpoint:
    """Take the lower one of what the group has committed and what the tables hold.

    A database that was restored from a backup is behind the group: what it has forgotten is read
    again. A group that was lost is behind the tables.
    """
    beginning = Checkpoint(low, low)  # for a group that has not committed yet
    if topic.stored is None:
        return committed or beginning
    stored = topic.stored.get(p)
    if committed is None:
        return stored or beginning
    if stored is not None and stored.resume >= committed.resume:
        return committed
    behind = stored or beginning
    # a generation that began with a cut is known to the commit alone
    known = {k: v for k, v in committed.note.items() if k == "incarnation"}
    behind = replace(behind, note=behind.note | known)
    if behind.resume < committed.resume:
        observer.tables_behind(topic.subscription.topic, p, committed.resume, behind.resume)
    return behind


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


def read_commit(position: TopicPartition, observer: SourceObserver | None = None) -> Commit:
    """Read what `position_of` wrote."""
    if position.offset in (OFFSET_INVALID, OFFSET_BEGINNING):
        return Commit(None)
    try:
        values = json.loads(position.metadata or "{}")
        topic_id = str(values.pop("topic", ""))
        note = {name: int(value) for name, value in values.items()}
    except (ValueError, TypeError, AttributeError):
        if observer is not None:
            observer.foreign_commit(position.topic, position.partition, str(position.metadata))
        topic_id, note = "", {}
    rewind = note.pop("rewind", position.offset)
    epoch = -1 if position.leader_epoch is None else position.leader_epoch
    consent = bool(note.get("consent", 0))
    return Commit(Checkpoint(position.offset, rewind, note), topic_id, epoch, consent)


def position_of(topic: str, partition: int, commit: Commit) -> TopicPartition:
    """Give the position that `read_commit` reads."""
    checkpoint = commit.checkpoint
    assert checkpoint is not None
    values: dict[str, int | str] = {"rewind": checkpoint.rewind, **checkpoint.note}
    if commit.topic_id:
        values["topic"] = commit.topic_id
    metadata = json.dumps(values)
    if commit.epoch < 0:
        return TopicPartition(topic, partition, checkpoint.resume, metadata=metadata)
    return TopicPartition(
        topic, partition, checkpoint.resume, metadata=metadata, leader_epoch=commit.epoch
    )
