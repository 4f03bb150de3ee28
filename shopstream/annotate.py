"""`shopstream annotate`: put a mark on the dashboards' time axis."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import UTC, datetime

from database.annotations import Annotation, Kind, annotate
from database.connection import connect
from flows.domain.errors import ConfigError
from flows.runtime.settings import settings_or_exit

# marks of synthetic history are written with their rows alone
KINDS = [Kind.DEPLOYMENT, Kind.RESTART, Kind.REPLAY, Kind.SCHEMA]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("kind", choices=[str(k) for k in KINDS], help="what happened")
    parser.add_argument("title", help="in a few words")
    parser.add_argument("--text", default="", help="in more words")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="a tag; may be repeated"
    )
    parser.add_argument("--at", type=moment, metavar="TIME", help="when (ISO 8601; now)")
    parser.add_argument(
        "--until", type=moment, metavar="TIME", help="until when, for a stretch of time"
    )
    parser.set_defaults(run=run)


def moment(text: str) -> datetime:
    """Read a time of the command line; one without a zone is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def run(args: argparse.Namespace) -> int:
    """Store the annotation, and print it."""
    settings = settings_or_exit()
    time = args.at or datetime.now(UTC)
    annotation = Annotation(
        Kind(args.kind), args.title, args.text, tuple(args.tag), time, args.until
    )
    if annotation.end is not None and annotation.end < annotation.time:
        raise ConfigError("--until must not be before the time itself")
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        annotate(db, annotation)
    print(f"{time.isoformat(timespec='seconds')} {annotation.kind}: {annotation.title}")
    return 0
