"""`shopstream rollup`: hours and days from minutes, once or for as long as it runs."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import closing
from threading import Event
from types import FrameType

import psycopg

from database import log
from database.connection import connect
from database.maintenance import Upkeep, broken_contract
from database.rollup import rebuild, roll_up
from flows.runtime.settings import settings_or_exit
from flows.runtime.telemetry import logs


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help=(
            "go on until stopped, with at least this pause between; also does what `retention`"
            " does, once an hour"
        ),
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help=(
            "count every hour and day anew of which the minutes are still there (as the owner of"
            " the tables)"
        ),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    if args.every is not None:
        if args.every <= 0:
            print("--every must be above 0", file=sys.stderr)
            return 2
        return go_on(args.every)
    try:
        with closing(connect(settings.database_url, settings.startup_seconds)) as db:
            done = rebuild(db) if args.rebuild else roll_up(db)
    except psycopg.Error as error:
        raise broken_contract(error) from error
    print(
        f"{done.hours} hours counted, {done.rows} rows changed, {done.refused} changes refused (see"
        " ops.sealed_changes)"
    )
    return 0


def go_on(every_seconds: float) -> int:
    """The supervised job."""
    settings = settings_or_exit()
    logs.configure(settings.log_format, settings.log_level, flow="rollup")
    stopping = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    log.begun(every_seconds)
    Upkeep(settings, every_seconds, stopping).run()
    return 0
