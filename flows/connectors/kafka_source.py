"""Read a topic in batches, and commit how far its outputs are.

Delivery: at-least-once. Offsets are committed only when Bytewax has passed the epoch barrier: the
first `next_batch` after a `snapshot` runs when all outputs of that epoch are done. Back pressure:
one poll at a time; librdkafka's queue is bounded.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from flows.connectors.observers import SourceObserver
from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import PermanentError, TransientError

TICK_SECONDS = 0.2
LEAST_POLL_SECONDS = 0.001
# statistics say what offsets alone do not: that the rest of a partition is no record (0.1 ms each
# time)
STATISTICS_SECONDS = 2.0
EMBEDDED_WAIT_MS = 10  # there a fetch that waits is latency
LAST_MOMENT = 253_402_300_799_999  # of the year 9999, in ms


class State(Protocol):
    """What a flow knows of its partitions, and how to begin one."""

    def restore(self, partition: int, checkpoint: Checkpoint) -> None: ...
    def checkpoints(self) -> dict[int, Checkpoint]: ...
    def depends_on(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Subscription:
    """Which records a process reads, and under what group it remembers how far.

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


class KafkaSource(FixedPartitionedSource[Batch, None]):
    """The partitions of one process, as one source. `stopping` is asked before each poll; true
    drains and ends the flow.
    """

    def __init__(
        self,
        subscription: Subscription,
        state: State,
        stopping: Callable[[], bool],
        observer: SourceObserver,
    ) -> None:
        self._arguments = (subscription, state, stopping, observer)
        self.reader: Reader | None = None

    def open(self) -> Reader:
        """Connect and find where to begin; what is wrong shows here, before the flow runs."""
        if self.reader is None:
            self.reader = Reader(*self._arguments)
        return self.reader

    def list_parts(self) -> list[str]:
        return [self._arguments[0].topic]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Reader:
        return self.open()


class Reader(StatefulSourcePartition[Batch, None]):
    """Poll, hand on, and commit at the epoch barrier.

    Time: emits a batch when a poll is full or its short timer ends; an empty one every 200 ms when
    idle, so that what sinks hold back by time gets out.
    """

    def __init__(
        self,
        subscription: Subscription,
        state: State,
        stopping: Callable[[], bool],
        observer: SourceObserver,
    ) -> None:
        self._subscription = subscription
        self._state = state
        self._stopping = stopping
        self._observer = observer
        self._exhausted: dict[int, int] = {}
        self._assigned: list[TopicPartition] = []
        self._consumer = connect(subscription, self._listeners)
        self._committed: dict[int, Checkpoint] = {}
        self._asked: Asked | None = None
        self._barrier = False
        self._emitted = self._polled = time.monotonic()
        self.drained = False
        self._begin()

    def _begin(self) -> None:
        """Seek every partition to `rewind` and tell the state."""
        sub = self._subscription
        owned = [
            p
            for p in partitions_of(self._consumer, sub, self._observer)
            if p % sub.count == sub.ordinal
        ]
        if embedded(self._consumer, sub):
            self._consumer.close()
            self._consumer = connect(sub, self._listeners, EMBEDDED_WAIT_MS)
        places = committed_of(self._consumer, sub, owned, self._observer)
        try:
            ends = [
                self._consumer.get_watermark_offsets(place, timeout=sub.startup_seconds)
                for place in places
            ]
        except KafkaException as error:
            raise TransientError(
                f"Kafka at {sub.bootstrap} does not say where {sub.topic} ends:"
                f" {error.args[0].str()}"
            ) from error
        starts = []
        for place, (low, high) in zip(places, ends, strict=True):
            checkpoint = restored(place, low, high, self._observer)
            tell_of_changes(place, checkpoint, self._state, self._observer)
            self._state.restore(place.partition, checkpoint)
            self._committed[place.partition] = checkpoint
            starts.append(TopicPartition(sub.topic, place.partition, checkpoint.rewind))
        self._consumer.assign(starts)
        self._assigned = starts
        self._observer.reading(
            sub.topic,
            self._committed,
            {place.partition: high for place, (_, high) in zip(places, ends, strict=True)},
        )

    @property
    def _listeners(self) -> dict[str, Callable[..., None]]:
        return {
            "on_commit": self._answered,
            "error_cb": self._observer.kafka_error,
            "stats_cb": self._take_statistics,
        }

    def next_batch(self) -> list[Batch]:
        if self._barrier:
            self._barrier = False
            self.commit()
        self._observer.passed()
        if self._stopping():
            self.drained = True
            self._observer.drained()
            raise StopIteration
        sub = self._subscription
        # from poll to poll: what the last batch took has been collecting records too
        left = sub.poll_seconds - (time.monotonic() - self._polled)
        messages = self._consumer.consume(sub.batch_records, max(left, LEAST_POLL_SECONDS))
        self._polled = time.monotonic()
        good = messages
        if any(errors := list(map(Message.error, messages))):
            check([error for error in errors if error is not None], sub.topic, self._observer)
            good = [m for m in messages if m.error() is None]
        if not good and time.monotonic() - self._emitted < TICK_SECONDS:
            return []
        self._emitted = self._polled
        batch = batch_of(good, len(messages) < sub.batch_records)
        self._tell(batch)
        return [batch]

    def _tell(self, batch: Batch) -> None:
        """Tell of a poll, with the ends that the consumer has heard of anyway; asking the broker
        would wait for it.
        """
        ends = (
            (place, self._consumer.get_watermark_offsets(place, cached=True))
            for place in self._assigned
        )
        self._observer.polled(
            batch, {place.partition: known[1] for place, known in ends if known is not None}
        )
        if not len(batch):
            for partition, end in self._exhausted.items():
                self._observer.nothing_readable(partition, end)
        self._exhausted = {}

    def _take_statistics(self, text: str) -> None:
        """CommitNote the partitions that are read to their end: what is left up to it are marks of
        transactions, or records of an open one. It holds until the next poll that brings
        records.
        """
        topic = json.loads(text)["topics"].get(self._subscription.topic, {"partitions": {}})
        for name, known in topic["partitions"].items():
            if known["fetchq_cnt"] == 0 and 0 <= known["ls_offset"] <= known["next_offset"]:
                self._exhausted[int(name)] = known["hi_offset"]

    def snapshot(self) -> None:
        self._barrier = True
        self._observer.closing()

    def commit(self) -> None:
        """Ask for a commit of the partitions that moved; the answer comes with a later poll, and
        reading goes on meanwhile.

        Errors: TransientError when the last one failed or stays without an answer.
        """
        self._look_at_commit()
        moved = {p: c for p, c in self._state.checkpoints().items() if c != self._committed.get(p)}
        if not moved or self._asked is not None:
            return
        self._asked = Asked(moved, time.monotonic())
        self._consumer.commit(offsets=self._places(moved), asynchronous=True)

    def _places(self, checkpoints: dict[int, Checkpoint]) -> list[TopicPartition]:
        return [
            TopicPartition(
                self._subscription.topic,
                p,
                c.resume,
                metadata=json.dumps({"rewind": c.rewind} | c.note),
            )
            for p, c in checkpoints.items()
        ]

    def _answered(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        """Called within a poll."""
        assert self._asked is not None
        failed = error.str() if error is not None else next(failures(places), None)
        if failed is None:
            self._committed |= self._asked.checkpoints
            resumes = {p: checkpoint.resume for p, checkpoint in self._asked.checkpoints.items()}
            self._observer.committed(resumes, time.monotonic() - self._asked.at)
            self._asked = None
        else:
            self._asked = replace(self._asked, failed=failed)

    def _look_at_commit(self) -> None:
        asked, sub = self._asked, self._subscription
        if asked is None:
            return
        failed = asked.failed
        if failed is None and time.monotonic() - asked.at > sub.commit_seconds:
            failed = "no answer"
        if failed is not None:
            raise TransientError(
                f"offsets of {sub.group} on {sub.topic} cannot be committed: {failed}"
            )

    def finish(self) -> None:
        """Commit and close after a drain, once all sinks are flushed. Bytewax's own `close` comes
        too early for that.
        """
        self.commit()
        while self._asked is not None:
            self._consumer.poll(
                0.05
            )  # it brings the answer; what it may read besides is read again after the restart
            self.commit()  # what moved while the one before was under way
        self._consumer.close()


@dataclass(frozen=True)
class Asked:
    """A commit on its way, since when (monotonic), and how it failed."""

    checkpoints: dict[int, Checkpoint]
    at: float
    failed: str | None = None


def failures(places: list[TopicPartition]) -> Iterator[str]:
    """What went wrong with a partition."""
    yield from (place.error.str() for place in places if place.error is not None)


def connect(
    sub: Subscription, listeners: dict[str, Callable[..., None]], wait_ms: int = 500
) -> Consumer:
    """A consumer; it keeps a fetch open at the broker for `wait_ms` when there is nothing to read."""
    return Consumer(
        {
            "bootstrap.servers": sub.bootstrap,
            "group.id": sub.group,
            "enable.auto.commit": False,
            **listeners,
            # silence instead of a skip would follow from "latest" when retention has overtaken us
            "auto.offset.reset": "error",
            # 1,000 by default: a fast consumer then sits idle four fifths of its time (0.34 against
            # 1.7 M records/s)
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": wait_ms,
            # counted by payload; the client's own record of a small message is three times as large
            "queued.max.messages.kbytes": 4_096,
            "fetch.message.max.bytes": 4_194_304,
            "max.poll.interval.ms": 86_400_000,
            "socket.keepalive.enable": True,
            "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
            "logger": logging.getLogger("librdkafka"),
        }
    )


def embedded(consumer: Consumer, sub: Subscription) -> bool:
    """Whether the broker is librdkafka's own, which does not wake a waiting fetch when records
    come.
    """
    found = consumer.list_topics(sub.topic, timeout=sub.startup_seconds).cluster_id
    return found is not None and found.startswith("mockCluster")


def partitions_of(consumer: Consumer, sub: Subscription, observer: SourceObserver) -> list[int]:
    """The topic's partitions. Errors: PermanentError for a missing topic, TransientError for a
    silent broker.
    """
    until = time.monotonic() + sub.startup_seconds
    while True:
        try:
            found = consumer.list_topics(sub.topic, timeout=min(5.0, sub.startup_seconds)).topics[
                sub.topic
            ]
        except KafkaException as error:
            if time.monotonic() > until:
                raise TransientError(
                    f"Kafka at {sub.bootstrap} does not answer: {error.args[0].str()}"
                ) from error
            observer.broker_silent(sub.bootstrap, error.args[0].str())
            continue
        if found.error is None:
            return sorted(found.partitions)
        if (
            found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            and time.monotonic() < until - sub.startup_seconds + 3
        ):
            time.sleep(0.5)  # metadata of a new topic takes a moment to spread
        elif found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise PermanentError(
                f"topic {sub.topic} does not exist: run `python -m shopstream topics`"
            )
        elif time.monotonic() > until:
            raise TransientError(f"topic {sub.topic}: {found.error.str()}")
        else:
            time.sleep(0.5)


def committed_of(
    consumer: Consumer, sub: Subscription, owned: list[int], observer: SourceObserver
) -> list[TopicPartition]:
    """Where the group stands. A broker that has just started, or just lost a peer, is asked again:
    its coordinator comes after it. Errors: TransientError.
    """
    until = time.monotonic() + sub.startup_seconds
    while True:
        try:
            places = consumer.committed(
                [TopicPartition(sub.topic, p) for p in owned], timeout=sub.startup_seconds
            )
            failed = next(failures(places), None)
        except KafkaException as error:
            failed = error.args[0].str()
        if failed is None:
            return places
        if time.monotonic() > until:
            raise TransientError(
                f"Kafka at {sub.bootstrap} does not say where {sub.group} stands: {failed}"
            )
        observer.group_silent(sub.group, failed)
        time.sleep(0.5)


def restored(place: TopicPartition, low: int, high: int, observer: SourceObserver) -> Checkpoint:
    """The checkpoint that a commit holds. What retention has taken since is said, never silently
    skipped.
    """
    if place.offset in (OFFSET_INVALID, OFFSET_BEGINNING):
        return Checkpoint(low, low)
    try:
        note = {k: int(v) for k, v in json.loads(place.metadata or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        observer.foreign_commit(place.topic, place.partition, str(place.metadata))
        note = {}
    resume, rewind = place.offset, note.pop("rewind", place.offset)
    if resume > high:
        where = f"{place.topic} partition {place.partition}"
        raise PermanentError(
            f"{where}: offset {resume} is committed but the topic ends at {high}: it was made anew."
            " Restore it, or begin anew as a whole: all four topics, their consumer groups and the"
            " schemas gold, quality and ops"
        )
    if resume < low:
        observer.records_gone(place.topic, place.partition, resume, low - 1)
    elif rewind < low:
        observer.state_gone(place.topic, place.partition, low)
    return Checkpoint(max(resume, low), max(rewind, low), note)


def tell_of_changes(
    place: TopicPartition, before: Checkpoint, state: State, observer: SourceObserver
) -> None:
    """Say when a setting that rows depend on is not what it was: what is closed by then stays as it
    was counted.
    """
    now = state.depends_on()
    for name in before.note.keys() & now.keys():
        if before.note[name] != now[name]:
            observer.setting_changed(
                place.topic, place.partition, name, before.note[name], now[name]
            )


def check(errors: list[KafkaError], topic: str, observer: SourceObserver) -> None:
    """Librdkafka retries what can be retried; only what it gives up on stops the flow."""
    for error in errors:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise PermanentError(
                f"{topic}: {error.str()}: records were deleted while they were being read"
            )
        if error.fatal() or error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
        ):
            raise PermanentError(f"{topic}: {error.str()}")
        observer.record_error(topic, error)


def batch_of(messages: list[Message], caught_up: bool) -> Batch:
    """Columns of what a poll brought, partition by partition. The loops are C: a generator would
    cost three times as much.
    """
    # of a polled message it is never None
    messages.sort(key=Message.partition)  # type: ignore[arg-type]
    count = len(messages)
    stamps = [stamp for _, stamp in map(Message.timestamp, messages)]
    return Batch(
        partition=np.fromiter(map(Message.partition, messages), np.int32, count),
        offset=np.fromiter(map(Message.offset, messages), np.int64, count),
        # a producer may stamp what it likes; what no calendar has would be in nobody's minute
        timestamp=np.array(stamps, np.int64).clip(0, LAST_MOMENT),
        key=pa.array(map(Message.key, messages), pa.binary(), size=count),
        payload=pa.array(map(Message.value, messages), pa.binary(), size=count),
        caught_up=caught_up,
    )
