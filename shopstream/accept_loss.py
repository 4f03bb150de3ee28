"""`shopstream accept-loss FLOW`: let a flow go on without records that are gone."""

from __future__ import annotations

import argparse

from flows.registry import BY_NAME, NAMES
from flows.runtime.settings import settings_or_exit
from shopstream.confirm import confirmed
from shopstream.kafka.groups import Group, Place, consenting


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("flow", choices=NAMES, help="the flow that stopped")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say what is gone, and let the flow pass over it at its next start.

    The flow itself finds out what exactly is lost, and keeps it in ops.losses.
    """
    with Group(settings_or_exit(), BY_NAME[args.flow]) as group:
        places = group.places()
        for place in places:
            for line in losses_of(group.topic, place):
                print(line)
        if not confirmed(f"let {args.flow} go on without what it finds lost next?", args.yes):
            return 1
        group.move([consenting(place) for place in places])
    print(
        f"{args.flow} passes over what is lost when it starts next, and keeps each loss in"
        " ops.losses"
    )
    return 0


def losses_of(topic: str, place: Place) -> list[str]:
    """Say what of a partition is gone, as far as the offsets tell."""
    resume, where = place.resume, f"{topic} partition {place.partition}"
    if resume < place.low:
        records = place.low - resume
        return [
            f"{where}: {records:,} records (offsets {resume} to {place.low - 1}), deleted before"
            " they were read"
        ]
    if resume > place.high:
        records = resume - place.high
        return [
            f"{where}: {records:,} records or more (offsets {place.high} to {resume - 1}), cut off"
            " the end of the log"
        ]
    return []
