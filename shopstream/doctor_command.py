"""`shopstream doctor`: look at everything that a flow needs, and say what to do about it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from flows.domain.errors import ConfigError
from flows.runtime.settings import Settings, load_settings
from shopstream.doctor.database import examine_database
from shopstream.doctor.finding import Finding
from shopstream.doctor.identity import examine_identity
from shopstream.doctor.kafka import examine_kafka, examine_readers
from shopstream.doctor.speed import examine_speed


def add(parser: argparse.ArgumentParser) -> None:
    """Take no options."""
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 when there is anything to do."""
    try:
        settings = load_settings()
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"BAD  settings: {line}", file=sys.stderr)
        return ConfigError.exit_code
    problems = 0
    for finding in examine(settings):
        problems += bool(finding.todo)
        print(
            f"{'BAD ' if finding.todo else 'ok  '} {finding.what}: {finding.found}"
            + (f". {finding.todo}" if finding.todo else "")
        )
    return 1 if problems else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything."""
    unset = [n for n in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL") if n not in os.environ]
    yield Finding(
        "settings", "all readable" + (f"; by default: {', '.join(unset)}" if unset else "")
    )
    yield from examine_speed(settings)
    yield from examine_kafka(settings)
    yield from examine_database(settings)
    yield from examine_identity(settings)
    yield from examine_readers(settings)
