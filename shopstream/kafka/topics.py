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
from flows.domain.incarnation import MOST_PARTITIONS
from flows.runtime.settings import Settings

WEEK_MS, MONTH_MS = str(7 * 86_400_000), str(30 * 86_400_000)
EMBEDDED_PARTITIONS = 4
Differences = dict[str, dict[str, tuple[str, str]]]
"""Topic -> setting -> (as it is, as it should be)."""


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
    settings: Settings, partitions: int, partitions_of: Mapping[str, int] = MappingProxyType({})
) -> list[Topic]:
    """List the topics as they should be, where `partitions_of` tells of those that are there.

    A family's raw and clean topic have as many partitions as the one of them that is there, the
    other topics as many as those of the first family; `partitions` is for what is new altogether.
    """
    topics = []
    for raw, clean in topics_of_families(settings):
        count = partitions_of.get(raw) or partitions_of.get(clean) or partitions
        topics += [
            # stamped by the broker: a producer's clock must not decide what is early or late
            Topic(
                raw, count, {"message.timestamp.type": "LogAppendTime"}, {"retention.ms": WEEK_MS}
            ),
            Topic(clean, count, {}, {"retention.ms": WEEK_MS}),
        ]
    count = topics[0].partitions
    return [
        *topics,
        Topic(
            settings.topic_dead_letters,
            count,
            {"max.message.bytes": str(DEAD_LETTER_BYTES)},
            {"retention.ms": MONTH_MS},
        ),
        # the newest count of a minute replaces the others, and all of them go in the end
        Topic(
            settings.topic_tallies,
            count,
            {},
            {"cleanup.policy": "compact,delete", "retention.ms": MONTH_MS},
        ),
    ]


def topics_of_families(settings: Settings) -> list[tuple[str, str]]:
    """Name the raw and the clean topic of each family."""
    return [
        (
            settings.topic(f"topic_raw_{family.name}"),
            settings.topic(f"topic_clean_{family.name}"),
        )
        for family in FAMILIES
    ]


def unequal(settings: Settings, partitions_of: Mapping[str, int]) -> list[str]:
    """Name the families whose raw and clean topic differ in their number of partitions."""
    return [
        f"{raw} has {partitions_of[raw]} partitions and {clean} {partitions_of[clean]}"
        for raw, clean in topics_of_families(settings)
        if raw in partitions_of
        and clean in partitions_of
        and partitions_of[raw] != partitions_of[clean]
    ]


def existing(admin: AdminClient, patience_seconds: float = 10.0) -> dict[str, int]:
    """Give the number of partitions of each topic.

    Errors: TransientError when the broker does not answer.
    """
    try:
        topics = admin.list_topics(timeout=patience_seconds).topics
    except KafkaException as error:
        raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def ensure(settings: Settings, partitions: int, replication: int = -1) -> list[str]:
    """Create what is missing and correct settings; gives a line for each change and each problem.

    Errors: PermanentError where the partitions of raw and clean topic differ: a number cannot be
    changed without breaking the order of keys; and for more than tables can number.
    """
    admin = AdminClient(settings.kafka.client({}))
    partitions_of = existing(admin, settings.startup_seconds)
    if lines := unequal(settings, partitions_of):
        raise PermanentError(f"{'; '.join(lines)}: they must be equal")
    topics = wanted(settings, partitions, partitions_of)
    for topic in topics:
        if partitions_of.get(topic.name, topic.partitions) > MOST_PARTITIONS:
            raise PermanentError(f"topic {topic.name} may have {MOST_PARTITIONS:,} partitions")
    lines = [
        f"{t.name} has {partitions_of[t.name]} partitions, not {t.partitions}: more would break"
        " the order of keys"
        for t in topics
        if partitions_of.get(t.name, t.partitions) != t.partitions
    ]
    missing = [t for t in topics if t.name not in partitions_of]
    if missing:
        lines += create(admin, missing, replication, settings.startup_seconds)
    return lines + correct(admin, [t for t in topics if t.name in partitions_of])


def create(
    admin: AdminClient, topics: list[Topic], replication: int, patience_seconds: float
) -> list[str]:
    """Create topics; one that someone else makes at this moment is fine.

    Errors: PermanentError when the broker refuses.
    """
    lines = []
    new = [
        NewTopic(
            t.name, t.partitions, replication_factor=replication, config=t.settings | t.initial
        )
        for t in topics
    ]
    for name, future in admin.create_topics(new).items():
        try:
            future.result(timeout=patience_seconds)
            lines.append(f"created {name}")
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise PermanentError(
                    f"topic {name} cannot be made: {error.args[0].str()}"
                ) from error
    return lines


def touch(settings: Settings) -> None:
    """Make the topics of an embedded broker, which makes one when a producer first asks for it."""
    producer = Producer(settings.kafka.client({}))
    for topic in wanted(settings, EMBEDDED_PARTITIONS):
        producer.list_topics(topic.name, timeout=10)


def differences(admin: AdminClient, topics: list[Topic]) -> Differences:
    """Compare the settings of topics with those that correctness needs.

    Errors: TransientError when the broker does not tell them.
    """
    resources = [ConfigResource(ResourceType.TOPIC, t.name) for t in topics]
    try:
        futures = admin.describe_configs(resources, request_timeout=10) if resources else {}
        configs = {r.name: future.result(timeout=15) for r, future in futures.items()}
    except (KafkaException, TimeoutError) as error:
        raise TransientError(
            f"the broker does not tell the settings of topics: {error or 'no answer'}"
        ) from error
    return {
        t.name: {
            name: (configs[t.name][name].value, value)
            for name, value in t.settings.items()
            if configs[t.name][name].value != value
        }
        for t in topics
    }


def correct(admin: AdminClient, topics: list[Topic]) -> list[str]:
    """Correct the settings of topics; gives a line for each change.

    Errors: PermanentError when the broker refuses.
    """
    lines = []
    for topic, changes in differences(admin, topics).items():
        if not changes:
            continue
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, (_, value) in changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in admin.incremental_alter_configs([resource]).values():
            try:
                future.result(timeout=20)
            except KafkaException as error:
                raise PermanentError(
                    f"the settings of topic {topic} cannot be changed: {error.args[0].str()}"
                ) from error
        lines += [
            f"{topic}: {name} was {was}, is {value}" for name, (was, value) in changes.items()
        ]
    return lines
