"""`python -m grafana`: render the provisioned files, or pictures of the boards."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import unified_diff
from pathlib import Path

import psycopg

from grafana import files
from grafana.boards import BY_UID
from grafana.uids import PROVISIONING

SHOWN_HOURS = {"now-1h": 1, "now-6h": 6, "now-24h": 24}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    commands = parser.add_subparsers(metavar="command", required=True)
    render = commands.add_parser("render", help="write grafana/provisioning/ from the code")
    render.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a file differs"
    )
    render.set_defaults(run=run_render)
    draw = commands.add_parser(
        "pictures", help="draw each board to a PNG, from a database that has rows"
    )
    draw.add_argument(
        "--database",
        default=os.environ.get("DATABASE_URL"),
        metavar="URL",
        help="default: DATABASE_URL",
    )
    draw.add_argument(
        "--prometheus",
        metavar="URL",
        help="for panels of telemetry; without it they say that they need it",
    )
    draw.add_argument(
        "--board",
        choices=sorted(BY_UID),
        action="append",
        metavar="UID",
        help="only this one; may be repeated",
    )
    draw.add_argument(
        "--hours", type=float, metavar="N", help="length of the range (the board's own)"
    )
    draw.add_argument(
        "--end", type=datetime.fromisoformat, metavar="TIME", help="end of the range (now)"
    )
    draw.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable's value"
    )
    draw.add_argument("--to", type=Path, default=Path("docs/pictures"), metavar="DIR")
    draw.set_defaults(run=run_pictures)
    args = parser.parse_args(arguments)
    return int(args.run(args))


def run_render(args: argparse.Namespace) -> int:
    found = files.files()
    changed = [p for p, text in found.items() if not p.exists() or p.read_text() != text]
    orphans = files.orphans(found)
    for path in (*changed, *orphans):
        name = path.relative_to(PROVISIONING)
        print(
            f"{name}:"
            f" {'nothing makes it' if path in orphans else 'differs' if args.check else 'written'}"
        )
        if args.check and path in changed and path.exists():
            lines = unified_diff(
                path.read_text().splitlines(),
                found[path].splitlines(),
                "checked in",
                "rendered",
                lineterm="",
                n=1,
            )
            print("\n".join(list(lines)[:20]))
    if args.check:
        return 1 if changed or orphans else 0
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found[path])
    for path in orphans:
        path.unlink()
    return 0


def run_pictures(args: argparse.Namespace) -> int:
    if not args.database:
        print("grafana: name a database: --database or DATABASE_URL", file=sys.stderr)
        return 2
    try:
        from tools.pictures.page import Places, picture
    except ModuleNotFoundError as error:
        print(f"grafana: pictures need {error.name}, which the extra `dev` has", file=sys.stderr)
        return 2
    end = args.end or datetime.now(UTC)
    chosen = dict(pair.split("=", 1) for pair in args.set)
    with psycopg.connect(args.database, autocommit=True, options="-c timezone=UTC") as db:
        for uid in args.board or BY_UID:
            hours = args.hours or SHOWN_HOURS[BY_UID[uid].since]
            path = args.to / f"{uid}.png"
            picture(
                BY_UID[uid], Places(db, args.prometheus), end, timedelta(hours=hours), chosen, path
            )
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
