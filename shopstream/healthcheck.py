"""`shopstream incoming`: whether records come in; what a container of a producer is asked for its
health.
"""

from __future__ import annotations

import argparse
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows.domain.errors import PermanentError, TransientError
from flows.runtime.settings import Settings, settings_or_exit

PAUSE_SECONDS = 0.2


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="how long to watch raw.web (5)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    grown = growth(settings, settings.topic("topic_raw_web"), args.seconds)
    print(
        f"{settings.topic('topic_raw_web')} grew by {grown} records"
        if grown
        else f"{settings.topic('topic_raw_web')} does not grow"
    )
    return 0 if grown else 1


def growth(settings: Settings, topic: str, seconds: float) -> int:
    """Watch a topic until it grows, at most so long. Errors: TransientError, PermanentError."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": settings.group("growing"),
            "log_level": 0,
        }
    )
    try:
        first = records(consumer, topic)
        until = time.monotonic() + seconds
        while True:
            grown = records(consumer, topic) - first
            if grown or time.monotonic() > until:
                return grown
            time.sleep(PAUSE_SECONDS)
    except KafkaException as error:
        raise TransientError(f"Kafka does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def records(consumer: Consumer, topic: str) -> int:
    """All records that the topic ever had."""
    found = consumer.list_topics(topic, timeout=5).topics[topic]
    if found.error is not None:
        raise PermanentError(f"topic {topic}: {found.error.str()}")
    places = (TopicPartition(topic, p) for p in found.partitions)
    return sum(consumer.get_watermark_offsets(place, timeout=5)[1] for place in places)
