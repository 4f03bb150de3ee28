"""A consumer for one topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException

from flows.connectors.kafka_cluster import Cluster, Troubles
from flows.connectors.observers import SourceObserver
from flows.domain.errors import PermanentError, TransientError

# The statistics say what offsets do not: that the rest of a partition is no record. Each costs
# 0.1 ms.
STATISTICS_SECONDS = 2.0
FETCH_WAIT_MS = 500
# The embedded broker does not wake a fetch that waits when records come, so waiting is latency.
EMBEDDED_FETCH_WAIT_MS = 10
RETRY_SECONDS = 0.5
# The metadata of a new topic take a moment to reach all brokers.
NEW_TOPIC_SECONDS = 3.0


@dataclass(frozen=True)
class Subscription:
    """Which records a process reads, and under which group it commits.

    Of `count` processes this one owns the partitions p with p % count == ordinal. With `goes_on`,
    records that were gone before they were read are told and passed over. With `broker_time`, a
    topic whose producers stamp its records is refused. A poll lasts between `least_seconds` and
    `poll_seconds`, counted from the one before.
    """

    kafka: Cluster
    topic: str
    group: str
    ordinal: int = 0
    count: int = 1
    batch_records: int = 10_000
    poll_seconds: float = 0.02
    least_seconds: float = 0.005
    startup_seconds: float = 30.0
    commit_seconds: float = 30.0
    goes_on: bool = False
    is_raw: bool = False
    broker_time: bool = False

    def owns(self, partition: int) -> bool:
        """Tell whether a partition is this process's."""
        return partition % self.count == self.ordinal

    @property
    def flow(self) -> str:
        """Name the flow that the group is of."""
        return self.group.rpartition(".")[2]


def connect(
    subscription: Subscription,
    callbacks: dict[str, Callable[..., None]],
    fetch_wait_ms: int = FETCH_WAIT_MS,
    end_is_told: bool = False,
) -> Consumer:
    """Make a consumer that commits only what it is told to."""
    return Consumer(
        subscription.kafka.client(
            {
                "group.id": subscription.group,
                "enable.auto.commit": False,
                **callbacks,
                # with "latest" it would skip silently to the end when retention has overtaken us
                "auto.offset.reset": "error",
                # 1,000 by default: a fast consumer then sits idle four fifths of its time (0.34
                # against 1.7 M records/s)
                "fetch.queue.backoff.ms": 1,
                "fetch.wait.max.ms": fetch_wait_ms,
                "enable.partition.eof": end_is_told,
                # counted by payload; the client's own record of a small message is three times as
                # large
                "queued.max.messages.kbytes": 4_096,
                "fetch.message.max.bytes": 4_194_304,
                # a flow polls no more while its database is away, which may take hours
                "max.poll.interval.ms": 86_400_000,
                "socket.keepalive.enable": True,
                "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
                # partitions that are added are to be noticed within a minute; 300,000 by default
                "topic.metadata.refresh.interval.ms": 20_000,
                "logger": logging.getLogger("librdkafka"),
            }
        )
    )


def is_embedded(consumer: Consumer, subscription: Subscription) -> bool:
    """Tell whether the broker is the one that is built into librdkafka."""
    cluster = consumer.list_topics(
        subscription.topic, timeout=subscription.startup_seconds
    ).cluster_id
    return cluster is not None and cluster.startswith("mockCluster")


def partitions_of(
    consumer: Consumer, subscription: Subscription, observer: SourceObserver, troubles: Troubles
) -> list[int]:
    """Give the topic's partitions, once the broker knows the topic.

    Errors: PermanentError for a missing topic, and for a broker that does not let us in;
    TransientError for a silent one.
    """
    topic, patience = subscription.topic, subscription.startup_seconds
    began = time.monotonic()
    while True:
        try:
            metadata = consumer.list_topics(topic, timeout=min(5.0, patience)).topics[topic]
        except KafkaException as error:
            told = troubles.explain(subscription.kafka, consumer, error)
            if time.monotonic() > began + patience or isinstance(told, PermanentError):
                raise told from error
            observer.broker_silent(str(subscription.kafka), error.args[0].str())
            continue  # without a pause: the call has waited for its timeout
        if metadata.error is None:
            return sorted(metadata.partitions)
        waited = time.monotonic() - began
        if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            if waited >= NEW_TOPIC_SECONDS:
                raise PermanentError(
                    f"topic {topic} does not exist: run `python -m shopstream topics`"
                )
        elif waited > patience:
            raise TransientError(f"topic {topic}: {metadata.error.str()}")
        time.sleep(RETRY_SECONDS)
