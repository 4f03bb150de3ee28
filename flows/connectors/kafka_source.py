"""Read a topic in batches, and commit how far its outputs are.

Delivery: at-least-once. Offsets are committed only when Bytewax has passed the epoch barrier: all
outputs of the records before them are done.
Back pressure: one poll at a time; the client's queue of fetched records is bounded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

import numpy as np
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import KafkaError, Message, TopicPartition

from flows.connectors.commits import Commit, Commits
from flows.connectors.kafka_cluster import Troubles
from flows.connectors.kafka_consumer import (
    EMBEDDED_FETCH_WAIT_MS,
    Subscription,
    connect,
    is_embedded,
    partitions_of,
)
from flows.connectors.kafka_topics import written
from flows.connectors.observers import SourceObserver
from flows.connectors.starts import (
    LeaderEpochs,
    Topic,
    cut_told_by,
    lost_line,
    starts_of,
    topic_id_of,
)
from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import PermanentError, TransientError
from flows.domain.incarnation import UNKNOWN
from flows.domain.losses import Cause, Loss

# What sinks hold back by time gets out with the next item, so an idle topic makes empty ones.
TICK_SECONDS = 0.2
# The client takes a negative time for no limit.
LEAST_POLL_SECONDS = 0.001
PACE = 2.0
# A backlog is more than so many polls of this size.
BACKLOG_POLLS = 2
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# Less is how clocks are corrected all the time.
STEP_SECONDS = 5.0
# the end of the year 9999, the last that a timestamp column can print
LAST_TIMESTAMP_MS = 253_402_300_799_999

NO_INCARNATIONS: Mapping[int, int] = MappingProxyType({})


class State(Protocol):
    """What a flow knows of its partitions, as its source needs it."""

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""

    def lose(self, loss: Loss) -> None:
        """Take note of records that were gone before they were read."""

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Map each partition to where it stands once all that was read is in the outputs."""

    def depends_on(self) -> dict[str, int]:
        """Map the settings that its results depend on to their values."""


class Tables(Protocol):
    """The tables of a flow, which say themselves how far they are."""

    def stored(self, topic_id: str) -> dict[int, Checkpoint] | None:
        """Read where they stand in the topic with this id; None where they do not tell."""

    def written(self) -> dict[int, Checkpoint]:
        """Map each partition to where the rows stand that this process has committed."""

    @property
    def wants_a_turn(self) -> bool:
        """Say whether an item is wanted, so that rows that wait get out."""


class KafkaSource(FixedPartitionedSource[Batch, None]):
    """The partitions of one process, as one source.

    `stopping` is called before each poll; true drains and ends the flow. With `tables`, only what
    they hold is committed.
    """

    def __init__(
        self,
        subscription: Subscription,
        state: State,
        stopping: Callable[[], bool],
        observer: SourceObserver,
        tables: Tables | None = None,
    ) -> None:
        self._arguments = (subscription, state, stopping, observer, tables)
        self.reader: Reader | None = None

    def open(self) -> Reader:
        """Connect and find where to begin; what is wrong shows now, before the flow runs."""
        if self.reader is None:
            self.reader = Reader(*self._arguments)
        return self.reader

    def incarnation(self, partition: int) -> int:
        """Give the incarnation of the topic that a partition's records are of."""
        return self.open().incarnation(partition)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, whichever process reads them."""
        return self.open().partitions

    def list_parts(self) -> list[str]:
        """Name the one part: a single consumer reads all partitions of the process."""
        return [self._arguments[0].topic]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Reader:
        """Give the reader; its state is in the log, so Bytewax has none for it."""
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
        tables: Tables | None,
    ) -> None:
        self._tables = tables
        self._topic_id = ""
        self._incarnations: dict[int, int] = {}
        self._epochs: dict[int, LeaderEpochs] = {}
        self._next: dict[int, int] = {}
        self._known: list[int] = []
        self._added: list[int] = []
        self._subscription = subscription
        self._state = state
        self._stopping = stopping
        self._observer = observer
        self._failed: list[Message] = []
        self._exhausted: dict[int, int] = {}
        self._assigned: list[TopicPartition] = []
        self._commits = Commits(subscription, observer)
        self._troubles = Troubles(observer.kafka_error)
        self._epoch_ended = False
        # how far the wall clock is ahead of the one that only goes forward
        self._ahead = time.time() - time.monotonic()
        self._emitted = self._polled = time.monotonic()
        self.drained = False
        self._consumer = connect(subscription, self._callbacks)
        self._begin()

    def _begin(self) -> None:
        subscription, observer = self._subscription, self._observer
        self._known = partitions_of(self._consumer, subscription, observer, self._troubles)
        partitions = [p for p in self._known if subscription.owns(p)]
        # Only a connected client knows the broker's kind, and its settings are fixed by then.
        if is_embedded(self._consumer, subscription):
            self._consumer.close()
            self._consumer = connect(subscription, self._callbacks, EMBEDDED_FETCH_WAIT_MS)
            topic = Topic(subscription, None, self._read_stored(""))
        else:
            topic_id = topic_id_of(subscription)
            self._topic_id = written(topic_id)
            topic = Topic(subscription, topic_id, self._read_stored(self._topic_id))
        starts = starts_of(self._consumer, topic, partitions, observer)
        for start in starts:
            self._report_changed_settings(start.partition, start.checkpoint)
            self._incarnations[start.partition] = start.checkpoint.note["incarnation"]
            self._epochs[start.partition] = LeaderEpochs(start.checkpoint.resume - 1, start.epoch)
            self._next[start.partition] = start.checkpoint.rewind
            self._state.restore(start.partition, start.checkpoint)
            if start.lost is not None:
                self._lose(start.lost)
        begun = {start.partition: start.checkpoint for start in starts}
        self._commits.begin({s.partition: s.checkpoint for s in starts if not s.is_news})
        self._assigned = [
            TopicPartition(subscription.topic, start.partition, start.checkpoint.rewind)
            for start in starts
        ]
        self._consumer.assign(self._assigned)
        observer.reading(
            subscription.topic,
            begun,
            {start.partition: start.end for start in starts},
            len(self._known),
        )

    def _read_stored(self, topic_id: str) -> dict[int, Checkpoint] | None:
        return None if self._tables is None else self._tables.stored(topic_id)

    def _lose(self, loss: Loss) -> None:
        self._observer.lost(loss)
        self._state.lose(loss)

    def incarnation(self, partition: int) -> int:
        """Give the incarnation of the topic that a partition's records are of."""
        return self._incarnations.get(partition, UNKNOWN)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        return len(self._known)

    def _report_changed_settings(self, partition: int, checkpoint: Checkpoint) -> None:
        # What was closed before the change stays as it was counted: nothing here can mend that.
        before, now = checkpoint.note, self._state.depends_on()
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                self._observer.setting_changed(
                    self._subscription.topic, partition, name, before[name], now[name]
                )

    @property
    def _callbacks(self) -> dict[str, Callable[..., None]]:
        # The client calls them within `consume` and `poll`, so on the thread of the flow.
        return {
            "on_commit": self._commits.take_answer,
            "error_cb": self._troubles,
            "stats_cb": self._take_statistics,
        }

    def next_batch(self) -> list[Batch]:
        """Give what one poll brings; at the beginning of an epoch, commit the one before.

        Errors: PermanentError, TransientError; StopIteration when the flow is to stop.
        """
        if self._epoch_ended:
            # Bytewax opens the next epoch, and calls this, only when every sink has returned from
            # the `snapshot` of the one before, where topics flush. And since our own `snapshot`
            # nothing was polled. So what the state has seen is what the topics hold:
            #
            #   next_batch, next_batch, ... | snapshots: topics flush    | commit, next_batch, ...
            #   the state grows             | the topics catch up        | both agree
            #
            # Tables are written beside the flow, each flush with the places at which it was taken.
            # What is committed of them by now was taken before the snapshots, so the topics hold
            # what belongs to it, and it can be committed; what is under way waits for the next
            # epoch. A kill at any earlier moment repeats records, and loses none.
            self._epoch_ended = False
            self.commit()
        if self._failed:
            # now that what came before them has been handed on
            failed, self._failed = self._failed, []
            self._check_errors(failed)
        self._observer.passed(self._written())
        self._look_at_the_clock()
        if self._added:
            raise TransientError(self._told_of_added())
        if self._stopping():
            self.drained = True
            self._observer.drained()
            raise StopIteration
        messages = self._poll()
        caught_up = self._has_caught_up(len(messages))
        if any(map(Message.error, messages)):
            self._failed = [m for m in messages if m.error() is not None]
            messages = [m for m in messages if m.error() is None]
        if not messages and not self._must_tick():
            return []
        self._emitted = self._polled
        batch = batch_of(messages, caught_up, self._incarnations)
        self._note_places(messages, batch)
        self._report(batch)
        return [batch]

    def _must_tick(self) -> bool:
        """Say whether an empty batch is due."""
        if time.monotonic() - self._emitted >= TICK_SECONDS:
            return True
        return self._tables is not None and self._tables.wants_a_turn

    def _written(self) -> dict[int, int] | None:
        """Map each partition to the place up to which the tables hold it; None without tables."""
        if self._tables is None:
            return None
        return {p: checkpoint.resume for p, checkpoint in self._tables.written().items()}

    def _has_caught_up(self, polled: int) -> bool:
        """Say whether a poll brought about all that the topic has, as far as the client knows.

        Not by the size of the poll alone: a record may hold thousands of events, and then the
        client's queue ends a poll long before it is full.
        """
        if polled == self._subscription.batch_records:
            return False
        ends = self._known_ends()
        waiting = sum(max(end - self._next[p], 0) for p, end in ends.items())
        # what came while the poll ended is no backlog
        return waiting - polled <= BACKLOG_POLLS * polled or not polled

    def _known_ends(self) -> dict[int, int]:
        # only what the client has heard of anyway: asking the broker would wait for it
        bounds = (
            (position.partition, self._consumer.get_watermark_offsets(position, cached=True))
            for position in self._assigned
        )
        return {p: known[1] for p, known in bounds if known is not None}

    def _look_at_the_clock(self) -> None:
        """Stop when the wall clock has stepped back: Bytewax would close no epoch until then."""
        ahead = time.time() - time.monotonic()
        if ahead < self._ahead - STEP_SECONDS:
            raise TransientError(
                f"the clock of this machine stepped back by {self._ahead - ahead:.0f} s"
            )
        self._ahead = max(self._ahead, ahead)

    def _note_places(self, messages: list[Message], batch: Batch) -> None:
        self._next |= {p: offset + 1 for p, offset in batch.last_offsets.items()}
        for p, rows in batch.rows_by_partition.items():
            epoch = messages[rows[-1]].leader_epoch()
            self._epochs[p].note(batch.last_offsets[p], -1 if epoch is None else epoch)

    def _poll(self) -> list[Message]:
        subscription = self._subscription
        # The pace is from poll to poll, since records collect while a batch is worked on, too. A
        # batch costs time of its own, however small it is: so the next one waits for as long as the
        # last one took, and half of the core stays free for others.
        worked = time.monotonic() - self._polled
        pace = min(max(PACE * worked, subscription.least_seconds), subscription.poll_seconds)
        messages = self._consumer.consume(
            subscription.batch_records, max(pace - worked, LEAST_POLL_SECONDS)
        )
        if not messages:
            # Nothing came for as long as a batch waits: now the first one need not wait at all.
            messages = self._consumer.consume(1, subscription.poll_seconds)
        self._polled = time.monotonic()
        return messages

    def _check_errors(self, failed: list[Message]) -> None:
        # librdkafka retries what can be retried; only what it gives up on stops the flow
        topic = self._subscription.topic
        for message in failed:
            error = message.error()
            assert error is not None
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                if cut_told_by(error) is not None:
                    # a start finds out what is lost
                    raise TransientError(f"{topic}: {error.str()}")
                self._overtaken(message.partition(), error)
                continue
            if error.fatal() or error.code() in (
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
                KafkaError.UNKNOWN_TOPIC_OR_PART,
            ):
                raise PermanentError(f"{topic}: {error.str()}")
            self._observer.record_error(topic, error)

    def _overtaken(self, p: int | None, error: KafkaError) -> None:
        """Go on behind records that were deleted while the flow was on its way to them."""
        subscription = self._subscription
        topic = subscription.topic
        if p is None:
            raise TransientError(f"{topic}: {error.str()}")
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(topic, p), timeout=subscription.startup_seconds
        )
        start = self._next[p]
        if not start < low <= high:
            # not deleted: the log has another end than it had
            raise TransientError(f"{topic} partition {p}: {error.str()}")
        loss = Loss(topic, p, start, low, low - start, Cause.DELETED, self.incarnation(p))
        if not subscription.goes_on:
            raise PermanentError(lost_line(subscription, [loss]))
        self._lose(loss)
        self._next[p] = low
        # the client has given the partition up, and refuses to seek in it
        self._consumer.incremental_unassign([TopicPartition(topic, p)])
        self._consumer.incremental_assign([TopicPartition(topic, p, low)])

    def _report(self, batch: Batch) -> None:
        self._observer.polled(batch, self._known_ends())
        if not len(batch):
            for partition, end in self._exhausted.items():
                self._observer.nothing_readable(partition, end)
        self._exhausted = {}

    def _take_statistics(self, text: str) -> None:
        # A partition is exhausted when the next offset to fetch is at the end that readers may see
        # and nothing waits in the queue. What is left up to its true end are markers of
        # transactions, or records of an open one. It holds until the next batch.
        topic = json.loads(text)["topics"].get(self._subscription.topic, {"partitions": {}})
        now = {int(name) for name in topic["partitions"] if int(name) >= 0}
        self._added = sorted(p for p in now - set(self._known) if self._subscription.owns(p))
        for name, known in topic["partitions"].items():
            if known["fetchq_cnt"] == 0 and 0 <= known["ls_offset"] <= known["next_offset"]:
                self._exhausted[int(name)] = known["hi_offset"]
        # negative until the client has asked
        oldest = {int(name): known["lo_offset"] for name, known in topic["partitions"].items()}
        self._observer.log_starts_at({p: low for p, low in oldest.items() if low >= 0})

    def next_awake(self) -> datetime:
        """Ask to be polled at once.

        Without a time, Bytewax would let an idle source wait until a millisecond later by the wall
        clock: where that steps back, for as long as the step.
        """
        return LONG_AGO

    def _told_of_added(self) -> str:
        topic = self._subscription.topic
        added = ", ".join(map(str, self._added))
        told = f"topic {topic} has new partitions ({added}): a restart reads them"
        if self._subscription.is_raw:
            told += (
                ". Keys move to other partitions now: what one visitor sends around this moment may"
                " be counted twice; and the clean topic must get as many partitions"
            )
        return told

    def snapshot(self) -> None:
        """Note the end of an epoch; there is nothing to save, the log is the state."""
        self._epoch_ended = True
        self._observer.closing()

    def commit(self) -> None:
        """Request a commit of the partitions that moved, unless one is under way.

        Errors: TransientError when the last request failed or has no answer in time.
        """
        self._commits.raise_if_failed()
        tables = self._tables
        checkpoints = self._state.checkpoints() if tables is None else tables.written()
        moved = self._commits.moved(checkpoints)
        if not moved or self._commits.is_under_way:
            return  # what moves meanwhile is in the next request
        commits = {p: self._commit_of(p, checkpoints[p]) for p in moved}
        self._commits.send(self._consumer, commits)

    def _commit_of(self, p: int, checkpoint: Checkpoint) -> Commit:
        epoch = self._epochs[p].of(checkpoint.resume - 1)
        note = {"incarnation": self.incarnation(p)}
        return Commit(checkpoint, self._topic_id, epoch, note=note)

    def finish(self) -> None:
        """Commit and close after a drain, once all sinks are flushed.

        Bytewax's own `close` comes before that.
        """
        self.commit()
        while self._commits.is_under_way:
            # It brings the answer. A record that it brings too is dropped: the state has not seen
            # it, so it is after `resume`, and the next start reads it.
            self._consumer.poll(0.05)
            self.commit()  # what moved while the request before was under way
        self._consumer.close()


def batch_of(
    messages: list[Message], caught_up: bool, incarnations: Mapping[int, int] = NO_INCARNATIONS
) -> Batch:
    """Make columns of what a poll brought, partition by partition."""
    # Sorting is stable, so the offsets of a partition stay in order. Of a polled message the
    # partition is never None.
    messages.sort(key=Message.partition)  # type: ignore[arg-type]  # typed for unsent ones too
    count = len(messages)
    # `map` over methods keeps the loops in C: generators cost three times as much.
    timestamps = [timestamp for _, timestamp in map(Message.timestamp, messages)]
    return Batch(
        partition=np.fromiter(map(Message.partition, messages), np.int32, count),
        offset=np.fromiter(map(Message.offset, messages), np.int64, count),
        # A producer may stamp what it likes. Outside of the calendar, no minute could hold it.
        timestamp=np.array(timestamps, np.int64).clip(0, LAST_TIMESTAMP_MS),
        key=pa.array(map(Message.key, messages), pa.binary(), size=count),
        payload=pa.array(map(Message.value, messages), pa.binary(), size=count),
        caught_up=caught_up,
        incarnations=incarnations,
    )
