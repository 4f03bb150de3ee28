"""Where the consumer groups of flows stand, and how an operator moves them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows.connectors.commits import Commit, first_failure, position_of, read_commit
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import TransientError
from flows.registry import Flow
from flows.runtime.settings import Settings

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """A partition of a flow's topic: what it holds, `[low, high)`, and what the group committed."""

    partition: int
    low: int
    high: int
    commit: Commit

    @property
    def resume(self) -> int:
        """Give the next offset of the group."""
        return self.low if self.commit.checkpoint is None else self.commit.checkpoint.resume


class Group:
    """The consumer group of a flow.

    Errors: TransientError when the broker does not answer.
    """

    def __init__(
        self, settings: Settings, flow: Flow, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._timeout = timeout_seconds
        self.name = settings.group(flow.name)
        self.topic = settings.topic(flow.reads)
        self._consumer = Consumer(
            settings.kafka.client(
                {"group.id": self.name, "enable.auto.commit": False, "log_level": 0}
            )
        )

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def places(self) -> list[Place]:
        """Read where the group stands in each partition; nothing where there is no topic."""
        try:
            topic = self._consumer.list_topics(self.topic, timeout=self._timeout).topics[self.topic]
            if topic.error is not None:
                return []
            positions = self._consumer.committed(
                [TopicPartition(self.topic, p) for p in sorted(topic.partitions)],
                timeout=self._timeout,
            )
            return [self._place(position) for position in positions]
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error

    def _place(self, position: TopicPartition) -> Place:
        low, high = self._consumer.get_watermark_offsets(position, timeout=self._timeout)
        return Place(position.partition, low, high, read_commit(position))

    def move(self, places: list[Place]) -> None:
        """Commit places as they are given."""
        if not places:
            return
        positions = self._consumer.commit(
            offsets=[position_of(self.topic, place.partition, place.commit) for place in places],
            asynchronous=False,
        )
        failure = first_failure(positions or [])
        if failure is not None:
            raise TransientError(f"offsets of {self.name} cannot be committed: {failure}")


def consenting(place: Place) -> Place:
    """Let the flow pass over what it finds lost next."""
    checkpoint = place.commit.checkpoint or Checkpoint(place.low, place.low)
    note = checkpoint.note | {"consent": 1}
    return replace(place, commit=replace(place.commit, checkpoint=replace(checkpoint, note=note)))


def at_beginning(place: Place, topic_id: str) -> Place:
    """Begin the partition anew."""
    return replace(place, commit=Commit(Checkpoint(place.low, place.low), topic_id))
