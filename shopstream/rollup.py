"""`shopstream rollup`: hours and days from minutes, once or for as long as it runs."""

from __future__ import annotations

import argparse
import signal
from contextlib import closing
from threading import Event
from types import FrameType

from database import log
from database.connection import connect
from database.maintenance import MaintenanceJob
from database.rollup import rebuild, roll_up
from flows.domain.errors import ConfigError
from flows.runtime.settings import Settings, settings_or_exit
from flows.runtime.telemetry import logs


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help=(
            "go on until stopped, with at least this pause between runs; also does what"
            " `retention` does, once per hour"
        ),
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help=(
            "count every hour and day anew whose minutes are still there (as the owner of the"
            " tables)"
        ),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Roll up once, or run the job of `--every`."""
    settings = settings_or_exit()
    if args.every is not None:
        if args.every <= 0:
            raise ConfigError("--every must be above 0")
        return run_job(settings, args.every)
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        result = rebuild(db) if args.rebuild else roll_up(db)
    print(
        f"{result.hours} hours counted, {result.rows} rows changed,"
        f" {result.refused} changes refused (see ops.sealed_changes)"
    )
    return 0


def run_job(settings: Settings, every_seconds: float) -> int:
    """Run the job that the supervisor starts, until SIGTERM or SIGINT."""
    logs.configure(settings.log_format, settings.log_level, flow="rollup")
    stopping = Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.rollup_started(every_seconds)
    MaintenanceJob(settings, every_seconds, stopping).run()
    return 0
