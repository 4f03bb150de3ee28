"""`shopstream reattach`: go on with topics that were made anew, beside what is stored."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import psycopg
from confluent_kafka.admin import AdminClient

from database.connection import connect
from flows.connectors import kafka_topics
from flows.connectors.lanes import attach, known_lanes
from flows.domain.families import FAMILIES
from flows.domain.incarnation import UNKNOWN, same_topic
from flows.registry import FLOWS
from flows.runtime.settings import Settings, settings_or_exit
from shopstream.confirm import confirmed
from shopstream.kafka.groups import Group, at_beginning


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Give topics that were made anew a lane of their own, and begin to read them.

    What was counted of the topics before stays as it is.
    """
    settings = settings_or_exit()
    topics = {settings.topic(flow.reads) for flow in FLOWS}
    client = AdminClient(settings.kafka.quiet_client())
    ids = kafka_topics.topic_ids(client, sorted(topics), settings.startup_seconds)
    with connect(settings.database_url, settings.startup_seconds) as db:
        anew = list(made_anew(db, settings, ids))
        for topic, _ in anew:
            print(f"{topic} was made anew: its numbers will stand beside those that are stored")
        if anew and not confirmed("go on with the new topics?", args.yes):
            return 1
        for topic, incarnation in anew:
            print(f"{topic}: lane {attach(db, topic, incarnation)}")
    moved = list(begin_anew(settings, ids))
    for line in moved:
        print(line)
    if not anew and not moved:
        print("nothing was made anew")
    return 0


def made_anew(
    db: psycopg.Connection, settings: Settings, ids: dict[str, kafka_topics.TopicId]
) -> Iterator[tuple[str, int]]:
    """Give the raw topics that the tables know, but not as they are now, and their incarnations."""
    for family in FAMILIES:
        topic = settings.topic(f"topic_raw_{family.name}")
        incarnation = kafka_topics.incarnation(ids.get(topic))
        lanes = known_lanes(db, topic)
        if incarnation != UNKNOWN and lanes and not any(same_topic(incarnation, x) for x in lanes):
            yield topic, incarnation


def begin_anew(settings: Settings, ids: dict[str, kafka_topics.TopicId]) -> Iterator[str]:
    """Move groups that stand in a topic that is no more to the beginning of the new one."""
    for flow in FLOWS:
        with Group(settings, flow) as group:
            topic_id = kafka_topics.written(ids.get(group.topic))
            stale = [
                place
                for place in group.places()
                if place.commit.topic_id and topic_id and place.commit.topic_id != topic_id
            ]
            group.move([at_beginning(place, topic_id) for place in stale])
            if stale:
                partitions = ", ".join(str(place.partition) for place in stale)
                yield f"{flow.name} begins at the beginning of {group.topic} ({partitions})"
