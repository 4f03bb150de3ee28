"""Which topic a name stands for: the id that a broker gives to a topic when it is made."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from flows.domain.errors import TransientError
from flows.domain.incarnation import UNKNOWN, incarnation_of

TopicId = tuple[int, int]
"""The two halves of 128 bits."""

BROKER_TIME = "LogAppendTime"


def topic_ids(
    client: AdminClient, topics: Iterable[str], patience_seconds: float
) -> dict[str, TopicId]:
    """Give the ids of those topics that are there.

    Errors: TransientError when the broker does not answer.
    """
    ids = {}
    futures = client.describe_topics(
        TopicCollection(list(topics)), request_timeout=patience_seconds
    )
    for topic, future in futures.items():
        try:
            given = future.result().topic_id
        except KafkaException as error:
            if error.args[0].name() in ("UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC_ID"):
                continue
            raise TransientError(
                f"Kafka does not describe topic {topic}: {error.args[0].str()}"
            ) from error
        if given is not None:
            ids[topic] = given.get_most_significant_bits(), given.get_least_significant_bits()
    return ids


def written(topic_id: TopicId | None) -> str:
    """Write an id as text; empty where the broker tells none."""
    return "" if topic_id is None else "".join(f"{half & (2**64 - 1):016x}" for half in topic_id)


def incarnation(topic_id: TopicId | None) -> int:
    """Make the number of an id's first generation."""
    return UNKNOWN if topic_id is None else incarnation_of(topic_id)


def stamped_by(client: AdminClient, topic: str, patience_seconds: float) -> str:
    """Give the topic's `message.timestamp.type`.

    Errors: TransientError when the broker does not tell it.
    """
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        configs = client.describe_configs([resource], request_timeout=patience_seconds)[
            resource
        ].result()
    except KafkaException as error:
        raise TransientError(
            f"Kafka does not tell the settings of topic {topic}: {error.args[0].str()}"
        ) from error
    return str(configs["message.timestamp.type"].value)
