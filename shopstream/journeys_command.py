"""`shopstream journeys show VISITOR`: print what a visitor did, as a person reads it."""

from __future__ import annotations

import argparse

from flows.domain.web import WEB
from flows.runtime.settings import settings_or_exit
from shopstream.journeys.clean_topic import read
from shopstream.journeys.sessions import SessionRules
from shopstream.journeys.words import told


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(metavar="action", required=True)
    show = actions.add_parser("show", help="print the sessions of a visitor")
    show.add_argument("visitor", help="the visitor_id of the events")
    show.add_argument(
        "--everywhere",
        action="store_true",
        help="look into every partition: for producers that do not place by visitor",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the visitor's sessions; 1 where there is no event."""
    settings = settings_or_exit()
    topic = settings.topic(f"topic_clean_{WEB.name}")
    partitions, found = read(settings, topic, args.visitor, args.everywhere)
    where = f"partition {partitions[0]}" if len(partitions) == 1 else "any partition"
    if not found:
        print(f"no event of {args.visitor!r} in {where} of {topic}")
        return 1
    rules = SessionRules(
        round(settings.session_gap_seconds * 1000), round(settings.session_max_seconds * 1000)
    )
    for line in told(args.visitor, found, rules):
        print(line)
    return 0
