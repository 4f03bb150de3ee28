"""What a raw topic has had: its incarnation, and how far its partitions go."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.connectors import kafka_topics
from flows.connectors.kafka_cluster import Cluster
from flows.domain.errors import TransientError
from flows.domain.incarnation import UNKNOWN, same_topic


class RawTopic:
    """Ask the broker about a topic that another flow reads.

    State: the clients, and the ends that were heard of.
    Errors: TransientError when the broker does not answer.
    """

    def __init__(self, kafka: Cluster, topic: str, patience_seconds: float) -> None:
        self._topic, self._patience = topic, patience_seconds
        self._configuration = kafka.quiet_client()
        self._admin: AdminClient | None = None
        self._consumer: Consumer | None = None
        self._ends: dict[int, int] = {}

    def incarnation(self) -> int:
        """Give the incarnation that the topic has now; UNKNOWN where there is none."""
        if self._admin is None:
            self._admin = AdminClient(self._configuration)
        ids = kafka_topics.topic_ids(self._admin, [self._topic], self._patience)
        return kafka_topics.incarnation(ids.get(self._topic))

    def holds(self, partition: int, incarnation: int, offset: int) -> bool:
        """Say whether the partition has had the offset; yes where nobody can tell any more."""
        if offset < self._ends.get(partition, 0):
            return True
        if incarnation != UNKNOWN and not same_topic(incarnation, self.incarnation()):
            return True
        self._ends[partition] = self._end(partition)
        return offset < self._ends[partition]

    def _end(self, partition: int) -> int:
        if self._consumer is None:
            self._consumer = Consumer({**self._configuration, "group.id": "shopstream-ends"})
        try:
            _, end = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=self._patience
            )
        except KafkaException as error:
            raise TransientError(
                f"Kafka does not say where topic {self._topic} ends: {error.args[0].str()}"
            ) from error
        return int(end)
