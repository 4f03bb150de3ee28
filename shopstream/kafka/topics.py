"""Make the topics, or say what is wrong with those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from flows.connectors.kafka_sink import DEAD_LETTER_BYTES
from flows.domain.errors import PermanentError, TransientError
from flows.domain.families import FAMILIES
from flows.runtime.settings import Settings

WEEK, MONTH = str(7 * 86_400_000), str(30 * 86_400_000)


@dataclass(frozen=True)
class Topic:
    """A topic as it should be.

    `settings` are those that correctness needs; `initial` ones are given to a new topic, and are
    the operator's from then on.
    """

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)


def wanted(
    settings: Settings, partitions: int, there: Mapping[str, int] = MappingProxyType({})
) -> list[Topic]:
    """Give the topics as they should be.

    A family's two topics have as many partitions as the one of them that is there, the others as
    many as those of the first family; `partitions` is for what is new altogether.
    """
    topics = []
    for family in FAMILIES:
        raw = settings.topic(f"topic_raw_{family.name}")
        clean = settings.topic(f"topic_clean_{family.name}")
        count = there.get(raw) or there.get(clean) or partitions
        topics += [
            # stamped by the broker: a producer's clock must not decide what is early or late
            Topic(raw, count, {"message.timestamp.type": "LogAppendTime"}, {"retention.ms": WEEK}),
            Topic(clean, count, {}, {"retention.ms": WEEK}),
        ]
    count = topics[0].partitions
    return [
        *topics,
        Topic(
            settings.topic_dead_letters,
            count,
            {"max.message.bytes": str(DEAD_LETTER_BYTES)},
            {"retention.ms": MONTH},
        ),
        # the newest count of a minute replaces the others, and all of them go in the end
        Topic(
            settings.topic_tallies,
            count,
            {},
            {"cleanup.policy": "compact,delete", "retention.ms": MONTH},
        ),
    ]


def unequal(settings: Settings, there: Mapping[str, int]) -> list[str]:
    """Name the families whose raw and clean topics differ in their number of partitions."""
    lines = []
    for family in FAMILIES:
        raw = settings.topic(f"topic_raw_{family.name}")
        clean = settings.topic(f"topic_clean_{family.name}")
        if raw in there and clean in there and there[raw] != there[clean]:
            lines.append(f"{raw} has {there[raw]} partitions and {clean} {there[clean]}")
    return lines


def existing(admin: AdminClient, patience_seconds: float = 10.0) -> dict[str, int]:
    """Topic -> number of partitions. Errors: TransientError when the broker does not answer."""
    try:
        found = admin.list_topics(timeout=patience_seconds).topics
    except KafkaException as error:
        raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}


def ensure(settings: Settings, partitions: int, replication: int = -1) -> list[str]:
    """Create what is missing and mend settings; gives a line for each thing done.

    Errors: PermanentError where partition counts do not fit: they cannot be changed without
    breaking key order.
    """
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    there = existing(admin, settings.startup_seconds)
    if lines := unequal(settings, there):
        raise PermanentError(f"{'; '.join(lines)}: they must be equal")
    topics = wanted(settings, partitions, there)
    lines = [
        f"{t.name} has {there[t.name]} partitions, not {t.partitions}: more would break the order of"
        " keys"
        for t in topics
        if there.get(t.name, t.partitions) != t.partitions
    ]
    missing = [t for t in topics if t.name not in there]
    made = (
        admin.create_topics(
            [
                NewTopic(
                    t.name,
                    t.partitions,
                    replication_factor=replication,
                    config=t.settings | t.initial,
                )
                for t in missing
            ]
        )
        if missing
        else {}
    )
    for name, future in made.items():
        try:
            future.result(timeout=settings.startup_seconds)
            lines.append(f"created {name}")
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise PermanentError(
                    f"topic {name} cannot be made: {error.args[0].str()}"
                ) from error
    return lines + mend(admin, [t for t in topics if t.name in there])


def touch(settings: Settings) -> None:
    """Make the topics of an embedded broker, which makes them when a producer first asks for them."""
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for topic in wanted(settings, 4):
        producer.list_topics(topic.name, timeout=10)


def differences(admin: AdminClient, topics: list[Topic]) -> dict[str, dict[str, tuple[str, str]]]:
    """Topic -> setting -> (as it is, as it should be)."""
    resources = [ConfigResource(ResourceType.TOPIC, t.name) for t in topics]
    try:
        asked = admin.describe_configs(resources, request_timeout=10) if resources else {}
        found = {r.name: f.result(timeout=15) for r, f in asked.items()}
    except (KafkaException, TimeoutError) as error:
        raise TransientError(
            f"the broker does not tell the settings of topics: {error or 'no answer'}"
        ) from error
    return {
        t.name: {
            k: (found[t.name][k].value, v)
            for k, v in t.settings.items()
            if found[t.name][k].value != v
        }
        for t in topics
    }


def mend(admin: AdminClient, topics: list[Topic]) -> list[str]:
    lines = []
    for name, changes in differences(admin, topics).items():
        if not changes:
            continue
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, (_, value) in changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(timeout=20)
        lines += [f"{name}: {key} was {was}, is {value}" for key, (was, value) in changes.items()]
    return lines
