"""`python -m tools.pictures`: draw each board to a PNG, from a database that has rows."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from flows.runtime.paths import ROOT
from grafana.boards import BY_UID
from grafana.macros import Surroundings

SHOWN_HOURS = {"now-1h": 1, "now-6h": 6, "now-24h": 24, "now/d": 14}


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    args = _parser().parse_args(arguments)
    if not args.database:
        print("pictures: name a database: --database or DATABASE_URL", file=sys.stderr)
        return 2
    try:
        # these need matplotlib, which only the extra `dev` installs
        from tools.pictures.data import Datasources
        from tools.pictures.page import picture
    except ModuleNotFoundError as error:
        print(f"pictures: they need {error.name}, which the extra `dev` has", file=sys.stderr)
        return 2
    end = args.end or datetime.now(UTC)
    wanted = dict(pair.split("=", 1) for pair in args.set)
    with psycopg.connect(args.database, autocommit=True, options="-c timezone=UTC") as db:
        for uid in args.board or BY_UID:
            board, path = BY_UID[uid], args.to / f"{uid}.png"
            hours = args.hours or SHOWN_HOURS[board.since]
            around = Surroundings(end - timedelta(hours=hours), end)
            picture(board, Datasources(db, args.prometheus), around, wanted, path)
            print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument(
        "--database",
        default=os.environ.get("DATABASE_URL"),
        metavar="URL",
        help="default: DATABASE_URL",
    )
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        help="for panels of telemetry; without it they say that they need it",
    )
    parser.add_argument(
        "--board",
        choices=sorted(BY_UID),
        action="append",
        metavar="UID",
        help="only this one; may be repeated",
    )
    parser.add_argument(
        "--hours", type=float, metavar="N", help="length of the range (the board's own)"
    )
    parser.add_argument(
        "--end", type=_aware, metavar="TIME", help="end of the range, UTC unless it says (now)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable's value"
    )
    parser.add_argument(
        "--to", type=Path, default=ROOT / "docs" / "pictures", metavar="DIR", help="docs/pictures"
    )
    return parser


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
