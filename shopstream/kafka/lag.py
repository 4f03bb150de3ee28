"""How far each flow is behind its topic, read from its consumer group as any other tool would."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows.domain.errors import TransientError
from flows.registry import BY_NAME, UPSTREAM_FIRST
from flows.runtime.settings import Settings


def topics_of(settings: Settings) -> dict[str, str]:
    """Give the topic that each flow reads, in the order in which records pass."""
    return {flow: getattr(settings, BY_NAME[flow].reads) for flow in UPSTREAM_FIRST}


@dataclass(frozen=True)
class Lag:
    """Records that a flow has not yet committed, and all that its topic holds."""

    records: int
    total: int


class Lags:
    """Ask the broker for the lag of every flow.

    Errors: TransientError when it does not answer.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 10.0) -> None:
        self._timeout = timeout_seconds
        self._topics = topics_of(settings)
        self._consumers = {
            flow: Consumer(
                {
                    "bootstrap.servers": settings.bootstrap,
                    "group.id": settings.group(flow),
                    "log_level": 0,
                }
            )
            for flow in self._topics
        }

    def __enter__(self) -> Lags:
        return self

    def __exit__(self, *_: object) -> None:
        for consumer in self._consumers.values():
            consumer.close()

    def of(self, flow: str) -> Lag:
        """Ask for the lag of one flow."""
        try:
            return self._lag(self._consumers[flow], self._topics[flow])
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error

    def _lag(self, consumer: Consumer, topic: str) -> Lag:
        metadata = consumer.list_topics(topic, timeout=self._timeout).topics[topic]
        committed = consumer.committed(
            [TopicPartition(topic, p) for p in metadata.partitions], timeout=self._timeout
        )
        records = total = 0
        for partition in committed:
            low, high = consumer.get_watermark_offsets(partition, timeout=self._timeout)
            # without a commit the offset is negative: then all that the topic holds is behind
            records += high - max(partition.offset, low)
            total += high - low
        return Lag(records, total)

    def all(self) -> dict[str, Lag]:
        """Ask for every flow's lag, upstream first.

        When all are 0, everything that was there before has gone through.
        """
        return {flow: self.of(flow) for flow in self._topics}
