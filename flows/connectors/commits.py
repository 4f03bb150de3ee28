"""How far a group has read: what is committed to Kafka, and how it is written and read.

A group's position in a partition is a checkpoint (domain/checkpoint.py): the committed offset is
`resume`, and the metadata of the commit are a JSON object of `rewind` and the note.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    TopicPartition,
)

from flows.connectors.kafka_consumer import Subscription
from flows.connectors.observers import SourceObserver
from flows.domain.checkpoint import Checkpoint, CommitNote
from flows.domain.errors import TransientError


@dataclass(frozen=True)
class Commit:
    """A group's place in a partition: the checkpoint, the topic's id as text, the leader's epoch.

    `consent` says that the operator lets the flow pass over what is lost. `note` is added to the
    checkpoint's when it is written.
    """

    checkpoint: Checkpoint | None
    topic_id: str = ""
    epoch: int = -1
    consent: bool = False
    note: CommitNote = field(default_factory=dict)


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
    values: dict[str, int | str] = {"rewind": checkpoint.rewind, **checkpoint.note, **commit.note}
    if commit.topic_id:
        values["topic"] = commit.topic_id
    metadata = json.dumps(values)
    if commit.epoch < 0:
        return TopicPartition(topic, partition, checkpoint.resume, metadata=metadata)
    return TopicPartition(
        topic, partition, checkpoint.resume, metadata=metadata, leader_epoch=commit.epoch
    )


@dataclass(frozen=True)
class _Request:
    """A commit on its way. Units: `sent_at` in seconds of the monotonic clock."""

    checkpoints: Mapping[int, Commit]
    sent_at: float
    failure: str | None = None


class Commits:
    """Commit places without waiting for the answer, which comes while records are polled.

    State: what is committed, and the request that is under way: one at a time.
    """

    def __init__(self, subscription: Subscription, observer: SourceObserver) -> None:
        self._subscription, self._observer = subscription, observer
        self._committed: dict[int, Checkpoint] = {}
        self._request: _Request | None = None

    @property
    def is_under_way(self) -> bool:
        """Say whether a request has no answer yet."""
        return self._request is not None

    def begin(self, committed: Mapping[int, Checkpoint]) -> None:
        """Take note of what the group has committed before."""
        self._committed = dict(committed)

    def moved(self, checkpoints: Mapping[int, Checkpoint]) -> list[int]:
        """Give the partitions that are not where they were committed."""
        return [p for p, c in checkpoints.items() if c != self._committed.get(p)]

    def send(self, consumer: Consumer, commits: Mapping[int, Commit]) -> None:
        """Request a commit; none may be under way."""
        self._request = _Request(commits, time.monotonic())
        topic = self._subscription.topic
        consumer.commit(
            offsets=[position_of(topic, p, commit) for p, commit in commits.items()],
            asynchronous=True,
        )

    def take_answer(self, error: KafkaError | None, positions: list[TopicPartition]) -> None:
        """Take the broker's answer, as the client's callback."""
        request = self._request
        assert request is not None
        failure = error.str() if error is not None else first_failure(positions)
        if failure is not None:
            # `raise_if_failed` raises it on the thread of the flow
            self._request = replace(request, failure=failure)
            return
        resumes = {}
        for p, commit in request.checkpoints.items():
            assert commit.checkpoint is not None
            self._committed[p] = commit.checkpoint
            resumes[p] = commit.checkpoint.resume
        self._observer.committed(resumes, time.monotonic() - request.sent_at)
        self._request = None

    def raise_if_failed(self) -> None:
        """Raise TransientError when the request has failed, or has no answer in time."""
        request, subscription = self._request, self._subscription
        if request is None:
            return
        failure = request.failure
        if failure is None and time.monotonic() - request.sent_at > subscription.commit_seconds:
            failure = "no answer"
        if failure is not None:
            raise TransientError(
                f"offsets of {subscription.group} on {subscription.topic} cannot be committed:"
                f" {failure}"
            )
