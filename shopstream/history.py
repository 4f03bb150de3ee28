"""`shopstream history`: fill past days with synthetic rows for dashboards to show, or remove them.

Synthetic rows have partition -1 in every table, and quality rows the topic `synthetic`. An
annotation of kind `synthetic` spans them, and is written first: so what a killed run leaves is
recognised and removed too (test_what_a_killed_load_left_is_replaced_by_the_next).
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from database.connection import connect
from flows.domain.errors import ConfigError
from flows.domain.rollups import Grain
from flows.runtime.settings import settings_or_exit
from generators.shoppers.history import History
from shopstream.backfill.load import LoadResult, load
from shopstream.backfill.removal import remove

RATE = 8.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--days", type=int, default=30, help="how far back (30)")
    parser.add_argument(
        "--rate",
        type=float,
        default=RATE,
        help=f"events per second on average; {RATE:g}, the default, makes about a million rows per"
        " day",
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed and time, same rows (1)")
    parser.add_argument(
        "--grains",
        type=grains,
        default=tuple(Grain),
        metavar="LIST",
        help="which tables (1m,1h,1d)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write what was loaded, and how fast, as JSON"
    )
    parser.add_argument(
        "--remove", action="store_true", help="remove all synthetic rows, and add none"
    )
    parser.set_defaults(run=run)


def grains(text: str) -> tuple[Grain, ...]:
    """Read a list of grains."""
    return tuple(Grain(name.strip()) for name in text.split(","))


def run(args: argparse.Namespace) -> int:
    """Remove the synthetic rows that are there, and load new ones unless told not to."""
    settings = settings_or_exit()
    if args.days < 1 or not args.rate > 0:
        raise ConfigError("--days must be 1 or more, and --rate above 0")
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        removed_rows = remove(db)
    if removed_rows or args.remove:
        print(f"removed {removed_rows:,} synthetic rows", flush=True)
    if args.remove:
        return 0
    past = History.until(datetime.now(UTC), args.days, args.rate, args.seed)
    result = load(settings, past, args.grains, print_day)
    print_result(result)
    if args.json:
        args.json.write_text(json.dumps(result.figures, indent=2) + "\n")
    return 0


def print_day(day: datetime) -> None:
    """Print that the rows of a day are there."""
    print(f"{day:%Y-%m-%d} is filled", flush=True)


def print_result(result: LoadResult) -> None:
    """Print how many rows each table got, and how long it took."""
    for table, rows in result.rows.items():
        print(f"  {table:<34} {rows:>12,}")
    print(
        f"loaded {result.total:,} rows of {result.events:,} events,"
        f" {result.past.start:%Y-%m-%d %H:%M} to {result.past.end:%Y-%m-%d %H:%M} UTC, in"
        f" {result.seconds:.1f} s ({result.total / result.seconds:,.0f} rows/s)"
    )
