"""`shopstream topics`: make the Kafka topics, or correct their settings."""

from __future__ import annotations

import argparse

from flows.domain.errors import ConfigError
from flows.runtime.settings import settings_or_exit
from shopstream.kafka import topics


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--partitions", type=int, default=4, metavar="N", help="of topics that are made now (4)"
    )
    parser.add_argument(
        "--replication",
        type=int,
        default=-1,
        metavar="N",
        help="replication factor (the broker's default)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make or correct the topics, with a line per change."""
    if args.partitions < 1:
        raise ConfigError("--partitions must be 1 or more")
    lines = topics.ensure(settings_or_exit(), args.partitions, args.replication)
    for line in lines or ["all topics are there"]:
        print(line)
    return 0
