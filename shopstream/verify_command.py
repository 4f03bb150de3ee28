"""`shopstream verify`: compare what a drained pipeline made with the generator's answer key."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from flows.domain.families import BY_NAME
from flows.domain.web import WEB
from flows.runtime.settings import settings_or_exit
from shopstream.verify.clean_offsets import AcceptedOffsets
from shopstream.verify.compare import verify
from shopstream.verify.ledger import Ledger
from shopstream.verify.report import show, write_junit


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--ledger", type=Path, required=True, metavar="DIR", help="the answer key of the run"
    )
    parser.add_argument(
        "--family", choices=sorted(BY_NAME), default=WEB.name, help="of events (web)"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the checks as JUnit XML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the checks and the verdict; exit code 1 when anything differs."""
    settings = settings_or_exit()
    ledger = Ledger(args.ledger)
    began = time.monotonic()
    family = BY_NAME[args.family]
    with AcceptedOffsets(settings, family) as accepted:
        report = verify(ledger, settings, accepted.until_the_end(), family)
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
