"""`shopstream verify`: compare a drained pipeline with its answer key, or with another one."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console

from database.connection import connect
from database.rollup import roll_up
from flows.domain.errors import ConfigError
from flows.domain.families import BY_NAME
from flows.domain.web import WEB
from flows.runtime.settings import settings_or_exit
from shopstream.verify.against import compare_with
from shopstream.verify.compare import verify
from shopstream.verify.ledger import Ledger
from shopstream.verify.report import Report, show, write_junit
from shopstream.verify.topics import Followed


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--ledger", type=Path, metavar="DIR", help="the answer key of the run")
    parser.add_argument(
        "--against",
        metavar="URL",
        help="another database: compare all views of gold cell by cell (postgres://…)",
    )
    parser.add_argument(
        "--family", choices=sorted(BY_NAME), default=WEB.name, help="of events (web)"
    )
    parser.add_argument(
        "--roll-up",
        action="store_true",
        help="bring hours and days up to date first, where no roll-up job runs",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the checks as JUnit XML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the checks and the verdict; exit code 1 when anything differs."""
    if args.ledger is None and args.against is None:
        raise ConfigError("--ledger DIR or --against URL: nothing is named to compare with")
    settings = settings_or_exit()
    began = time.monotonic()
    ledger = None if args.ledger is None else Ledger(args.ledger)
    if args.roll_up:
        with closing(connect(settings.database_url, settings.startup_seconds)) as db:
            roll_up(db)
    report = Report(0, 0, [], [])
    if ledger is not None:
        family = BY_NAME[args.family]
        with Followed(settings, family) as topics:
            report = verify(ledger, settings, topics.until_the_end(), family)
    if args.against is not None:
        compared = list(compare_with(settings, args.against))
        report.checks.extend(compared)
        if not sum(check.compared for check in compared):
            compared[0].differences.append("both databases are empty, so nothing is verified")
    show(report, Console())
    if args.junit:
        write_junit(report, args.junit)
    if args.json:
        numbers = {
            "events": report.events,
            "rows": report.rows,
            "differences": report.differences,
            "seconds": round(time.monotonic() - began, 1),
        }
        args.json.write_text(json.dumps(numbers) + "\n")
    return 1 if report.differences else 0
