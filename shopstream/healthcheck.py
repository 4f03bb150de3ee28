"""`shopstream incoming`: whether records come in, as the healthcheck of a producer's container."""

from __future__ import annotations

import argparse
import time

from confluent_kafka import Consumer, TopicPartition

from flows.domain.errors import PermanentError
from flows.runtime.settings import Settings, settings_or_exit

LOOK_SECONDS = 0.2
TIMEOUT_SECONDS = 5


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="how long to watch raw.web (5)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print whether raw.web grew; exit code 1 when it did not."""
    settings = settings_or_exit()
    topic = settings.topic("topic_raw_web")
    records = incoming(settings, topic, args.seconds)
    print(f"{topic} grew by {records} records" if records else f"{topic} does not grow")
    return 0 if records else 1


def incoming(settings: Settings, topic: str, seconds: float) -> int:
    """Watch a topic until it grows, for at most so long; gives the records that came.

    Errors: PermanentError for a topic that is not there; KafkaException when the broker does not
    answer.
    """
    consumer = Consumer(
        settings.kafka.client({"group.id": settings.group("growing"), "log_level": 0})
    )
    try:
        first = records_ever(consumer, topic)
        until = time.monotonic() + seconds
        while True:
            grown = records_ever(consumer, topic) - first
            if grown or time.monotonic() > until:
                return grown
            time.sleep(LOOK_SECONDS)
    finally:
        consumer.close()


def records_ever(consumer: Consumer, topic: str) -> int:
    """Sum the end offsets of a topic: all records that it ever had."""
    metadata = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic]
    if metadata.error is not None:
        raise PermanentError(f"topic {topic}: {metadata.error.str()}")
    partitions = (TopicPartition(topic, p) for p in metadata.partitions)
    return sum(consumer.get_watermark_offsets(p, timeout=TIMEOUT_SECONDS)[1] for p in partitions)
