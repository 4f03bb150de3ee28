"""`shopstream history`: fill days gone by with synthetic rows, so that dashboards have something to
show; or take them away.

Synthetic rows have partition -1 in every table, and quality rows the topic `synthetic`. An
annotation of kind
`synthetic` spans them, and is written first: what a killed run leaves is found and removed too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from database.annotations import Annotation, Kind, annotate
from database.connection import connect
from database.maintenance import broken_contract
from flows.connectors.postgres import identifier, identifiers
from flows.connectors.timescale import encoded
from flows.domain.rollups import BY_GRAIN, Grain
from flows.runtime.settings import Settings, settings_or_exit
from generators.shoppers.history import History, HistoryDay, history_days
from shopstream.backfill.gold_rows import Made, gold_rows
from shopstream.backfill.quality_rows import TROUBLE, quality_rows
from shopstream.backfill.removal import SYNTHETIC_TAG, remove

# two tables at once: one connection keeps one core of the server busy, and ours are busy making
# rows
CONNECTIONS = 2
RATE = 8.0


@dataclass(frozen=True)
class Loaded:
    """What was loaded. Units: events, rows by table, seconds."""

    past: History
    events: int
    rows: dict[str, int]
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def figures(self) -> dict[str, Any]:
        days = (self.past.end - self.past.start).days
        return {
            "days": days,
            "rate": self.past.rate,
            "events": self.events,
            "rows": self.total,
            "seconds": round(self.seconds, 1),
            "rows_per_second": round(self.total / self.seconds),
            "by_table": self.rows,
        }


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=30, help="how far back (30)")
    parser.add_argument(
        "--rate",
        type=float,
        default=RATE,
        help=f"events a second on average; {RATE:g}, the default, makes about a million rows a day",
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
        "--remove", action="store_true", help="take all synthetic rows away, and add none"
    )
    parser.set_defaults(run=run)


def grains(text: str) -> tuple[Grain, ...]:
    return tuple(Grain(name.strip()) for name in text.split(","))


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    if args.days < 1 or not args.rate > 0:
        print("--days must be 1 or more, and --rate above 0")
        return 2
    try:
        gone = remove_all(settings)
        if gone or args.remove:
            print(f"removed {gone:,} synthetic rows", flush=True)
        if not args.remove:
            past = History.until(datetime.now(UTC), args.days, args.rate, args.seed)
            done = load(
                settings,
                past,
                args.grains,
                lambda day: print(f"{day:%Y-%m-%d} is filled", flush=True),
            )
            say(done)
            if args.json:
                args.json.write_text(json.dumps(done.figures, indent=2) + "\n")
    except psycopg.Error as error:
        raise broken_contract(error) from error
    return 0


def remove_all(settings: Settings) -> int:
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        return remove(db)


def say(done: Loaded) -> None:
    for table, rows in done.rows.items():
        print(f"  {table:<34} {rows:>12,}")
    print(
        f"loaded {done.total:,} rows of {done.events:,} events, {done.past.start:%Y-%m-%d %H:%M} to"
        f" {done.past.end:%Y-%m-%d %H:%M} UTC, in {done.seconds:.1f} s"
        f" ({done.total / done.seconds:,.0f} rows/s)"
    )


def load(
    settings: Settings,
    past: History,
    only: Sequence[Grain],
    filled: Callable[[datetime], None] = lambda _: None,
) -> Loaded:
    """Make rows day by day, and copy those of one day while the next is made.

    Minutes, hours and days of a metric are one transaction, so the roll-up job never sees one
    without the others.
    """
    began = time.monotonic()
    wanted = {table.name for grain in only for table in BY_GRAIN[grain]}
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        for one in marks_of(past):
            annotate(db, one)
    events, rows = 0, dict.fromkeys(sorted(wanted), 0)
    with Loaders(settings) as loaders:
        before: list[Future[None]] = []
        for day in history_days(past):
            events += day.events.num_rows
            parts = [
                [made for made in part if made[0].name in wanted] for part in rows_of(day, past)
            ]
            for future in before:
                future.result()
            before = [loaders.copy(part) for part in parts]
            for table, frame in (made for part in parts for made in part):
                rows[table.name] += len(frame)
            filled(day.start)
        for future in before:
            future.result()
        for name in rows:
            loaders.analyze(name)
    return Loaded(past, events, rows, time.monotonic() - began)


def rows_of(day: HistoryDay, past: History) -> list[list[Made]]:
    """All tables of a day, largest first."""
    frame = pl.DataFrame(day.events).with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
    parts = [*gold_rows(frame), *quality_rows(frame, past.end, past.seed)]
    return sorted(parts, key=lambda part: -sum(len(made) for _, made in part))


def marks_of(past: History) -> list[Annotation]:
    span = Annotation(
        Kind.SYNTHETIC,
        "synthetic history",
        "No shop sold this.",
        (SYNTHETIC_TAG,),
        past.start,
        past.end,
    )
    troubles = [
        Annotation(
            Kind.DEPLOYMENT,
            bad.title,
            "",
            (SYNTHETIC_TAG,),
            bad.began(past.end),
            bad.ended(past.end),
        )
        for bad in TROUBLE
        if bad.began(past.end) >= past.start
    ]
    return [span, *troubles]


class Loaders:
    """Connections that copy, each in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._idle = [
            connect(settings.database_url, settings.startup_seconds) for _ in range(CONNECTIONS)
        ]
        for db in self._idle:
            # a crash loses days at the end, and the next run removes what is left
            db.execute("SET synchronous_commit = off")
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def __enter__(self) -> Loaders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for db in self._idle:
            db.close()

    def copy(self, part: Sequence[Made]) -> Future[None]:
        return self._threads.submit(self._copy, part)

    def _copy(self, part: Sequence[Made]) -> None:
        db = self._idle.pop()
        try:
            with db.transaction(), db.cursor() as cursor:
                for table, frame in part:
                    target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
                        identifier(table.name), identifiers(table.columns)
                    )
                    with cursor.copy(target) as copy:
                        copy.write(encoded(frame))
        finally:
            self._idle.append(db)

    def analyze(self, table: str) -> None:
        """Let the planner know: nobody else looks at so many new rows before minutes have gone by."""
        self._idle[0].execute(sql.SQL("ANALYZE {}").format(identifier(table)))
