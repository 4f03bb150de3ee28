"""`shopstream rewind FLOW`: read a flow's topic again, from the beginning of what it holds."""

from __future__ import annotations

import argparse

from confluent_kafka.admin import AdminClient

from database.connection import connect
from flows.connectors import kafka_topics
from flows.domain.errors import ConfigError
from flows.registry import BY_NAME, CLEANING, NAMES
from flows.runtime.settings import Settings, settings_or_exit
from shopstream.confirm import confirmed
from shopstream.kafka.groups import Group, at_beginning


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "flow", choices=[n for n in NAMES if n not in CLEANING], help="a flow that writes tables"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Move the group, and forget the places in the database.

    Rows that are stored stay as they are until the flow passes them.

    A database that is behind its group, a restored one for example, needs no rewind: the flow
    finds that out at its start.
    """
    settings = settings_or_exit()
    flow = BY_NAME[args.flow]
    client = AdminClient(settings.kafka.quiet_client())
    with Group(settings, flow) as group:
        ids = kafka_topics.topic_ids(client, [group.topic], settings.startup_seconds)
        places = group.places()
        if not places:
            raise ConfigError(f"topic {group.topic} does not exist")
        for place in places:
            print(
                f"{group.topic} partition {place.partition}: from offset {place.resume} back to"
                f" {place.low}"
            )
        if not confirmed(f"let {args.flow} read all of that again?", args.yes):
            return 1
        forget_places(settings, flow.name, group.topic)
        topic_id = kafka_topics.written(ids.get(group.topic))
        group.move([at_beginning(place, topic_id) for place in places])
    print(f"{args.flow} reads {group.topic} from its beginning when it starts next")
    return 0


def forget_places(settings: Settings, flow: str, topic: str) -> None:
    """Remove the places in the database."""
    with connect(settings.database_url, settings.startup_seconds) as db:
        db.execute("DELETE FROM ops.checkpoints WHERE flow = %s AND topic = %s", (flow, topic))
