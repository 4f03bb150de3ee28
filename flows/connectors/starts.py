"""Where a group begins to read: where it went on, what was lost meanwhile, and what was cut off."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.connectors import kafka_topics
from flows.connectors.commits import first_failure, read_commit
from flows.connectors.kafka_consumer import RETRY_SECONDS, Subscription, connect
from flows.connectors.kafka_topics import BROKER_TIME, TopicId
from flows.connectors.observers import SourceObserver
from flows.domain.checkpoint import Checkpoint, at_resume
from flows.domain.errors import PermanentError, TransientError
from flows.domain.incarnation import after_a_cut
from flows.domain.losses import Cause, Loss, told

PROBE_SECONDS = 0.05
PROBE_ANSWERS = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)


class LeaderEpochs:
    """Under which leaders the records of a partition were written, as far as it was read.

    State: the newest epoch and the one before, each with the first and last offset that surely have
    it: between two records of one epoch, all have it.
    """

    def __init__(self, offset: int, epoch: int) -> None:
        self._stretches = [(offset, offset, epoch)]

    def note(self, offset: int, epoch: int) -> None:
        """Take note of a record."""
        first, _, newest = self._stretches[-1]
        if epoch == newest:
            self._stretches[-1] = first, offset, epoch
        else:
            self._stretches = [self._stretches[-1], (offset, offset, epoch)]

    def of(self, offset: int) -> int:
        """Give the epoch of a record, -1 where it is not known."""
        for first, last, epoch in reversed(self._stretches):
            if first <= offset <= last:
                return epoch
        return -1


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
    client = AdminClient(subscription.kafka.quiet_client())
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
            f"Kafka at {subscription.kafka} does not say where {subscription.topic} ends:"
            f" {error.args[0].str()}"
        ) from error
    cuts = {} if topic.id is None else cuts_of(subscription, positions)
    starts = [
        start_of(topic, position, (low, cuts.get(position.partition, high)), observer)
        for position, (low, high) in zip(positions, bounds, strict=True)
    ]
    losses = [start.lost for start in starts if start.lost is not None]
    consents = {p.partition: read_commit(p).consent for p in positions}
    unwanted = [loss for loss in losses if not consents[loss.partition]]
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
        loss = None
        if topic.subscription.is_raw:
            loss = Loss(name, p, end, resume, resume - end, Cause.CUT, note["incarnation"])
        else:  # these were read before, and are in the outputs
            observer.cut_off(name, p, end, resume)
        note |= at_resume(note)
        note |= {"incarnation": after_a_cut(note["incarnation"]), "accepted": 0}
        # Nothing before the cut is read again: its counts are told of the log as it was.
        return Start(p, Checkpoint(end, end, note), end, loss, is_news=True)
    if resume < low:
        # What was counted of the open minute before is not known, and cannot be read again: what
        # comes behind the gap gets a lane of its own, so that neither replaces the other.
        note |= at_resume(note)
        note |= {"incarnation": after_a_cut(note["incarnation"]), "accepted": 0}
        loss = Loss(name, p, resume, low, low - resume, Cause.DELETED, note["incarnation"])
        return Start(p, Checkpoint(low, low, note), end, loss, is_news=True)
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
            f"Kafka at {subscription.kafka} does not say whether {subscription.topic} was cut"
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
    # a generation that began with a cut, and an operator's word, are known to the commit alone
    known = {k: v for k, v in committed.note.items() if k in ("incarnation", "consent")}
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
                f"Kafka at {subscription.kafka} does not say where {subscription.group} stands:"
                f" {failure}"
            )
        # A broker that has just started, or just lost a peer, answers before the coordinator of
        # the group does.
        observer.group_silent(subscription.group, failure)
        time.sleep(RETRY_SECONDS)
