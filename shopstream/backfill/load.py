"""Make synthetic rows of past days, and copy them into their tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from psycopg import sql

from database.annotations import Annotation, Kind, annotate
from database.connection import connect
from flows.connectors.binary_copy import HEADER, TRAILER, encoded
from flows.connectors.postgres import identifier, identifiers
from flows.domain.rollups import BY_GRAIN, Grain
from flows.runtime.settings import Settings
from generators.shoppers.history import History, HistoryDay, history_days
from shopstream.backfill.gold_rows import TableRows, gold_rows
from shopstream.backfill.quality_rows import TROUBLE, quality_rows
from shopstream.backfill.removal import SYNTHETIC_TAG

# two tables at once: one connection keeps one core of the server busy, and the cores of this side
# are busy making rows
CONNECTIONS = 2


@dataclass(frozen=True)
class LoadResult:
    """What was loaded.

    Units: events; rows by table; seconds.
    """

    past: History
    events: int
    rows: dict[str, int]
    seconds: float

    @property
    def total(self) -> int:
        """Rows of all tables."""
        return sum(self.rows.values())

    @property
    def figures(self) -> dict[str, Any]:
        """The result as JSON shows it."""
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


def load(
    settings: Settings,
    past: History,
    grains: Sequence[Grain],
    on_day: Callable[[datetime], None] = lambda _: None,
) -> LoadResult:
    """Make rows day by day, and copy those of one day while the next is made.

    Delivery: minutes, hours and days of a metric are one transaction, so that the roll-up job sees
    either all of them or none.
    """
    began = time.monotonic()
    names = {table.name for grain in grains for table in BY_GRAIN[grain]}
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        for annotation in annotations_of(past):
            annotate(db, annotation)
    events, rows = 0, dict.fromkeys(sorted(names), 0)
    with Loaders(settings) as loaders:
        copying: list[Future[None]] = []
        for day in history_days(past):
            events += day.events.num_rows
            parts = [
                [(table, frame) for table, frame in part if table.name in names]
                for part in rows_of(day, past)
            ]
            wait_for(copying)
            copying = [loaders.copy(part) for part in parts]
            for table, frame in (table_rows for part in parts for table_rows in part):
                rows[table.name] += len(frame)
            on_day(day.start)
        wait_for(copying)
        for name in rows:
            loaders.analyze(name)
    return LoadResult(past, events, rows, time.monotonic() - began)


def wait_for(copying: Sequence[Future[None]]) -> None:
    """Wait until everything is copied.

    Errors: what went wrong in the thread.
    """
    for future in copying:
        future.result()


def rows_of(day: HistoryDay, past: History) -> list[list[TableRows]]:
    """Count the rows of all tables of a day, largest transaction first."""
    frame = pl.DataFrame(day.events).with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
    parts = [*gold_rows(frame), *quality_rows(frame, past.end, past.seed)]
    return sorted(parts, key=lambda part: -sum(len(rows) for _, rows in part))


def annotations_of(past: History) -> list[Annotation]:
    """Annotate the whole span, and the begin of each time of trouble in it."""
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
            hours.title,
            "",
            (SYNTHETIC_TAG,),
            hours.began(past.end),
            hours.ended(past.end),
        )
        for hours in TROUBLE
        if hours.began(past.end) >= past.start
    ]
    return [span, *troubles]


class Loaders:
    """Connections that copy rows, each in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._idle = [
            connect(settings.database_url, settings.startup_seconds) for _ in range(CONNECTIONS)
        ]
        for db in self._idle:
            # a crash of the server loses the last days; the next run replaces everything anyway
            db.execute("SET synchronous_commit = off")
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def __enter__(self) -> Loaders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for db in self._idle:
            db.close()

    def copy(self, part: Sequence[TableRows]) -> Future[None]:
        """Copy rows of several tables in one transaction, in a thread."""
        return self._threads.submit(self._copy, part)

    def _copy(self, part: Sequence[TableRows]) -> None:
        db = self._idle.pop()
        try:
            with db.transaction(), db.cursor() as cursor:
                for table, frame in part:
                    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
                        identifier(table.name), identifiers(table.columns)
                    )
                    with cursor.copy(statement) as copy:
                        copy.write(HEADER + encoded(frame) + TRAILER)
        finally:
            self._idle.append(db)

    def analyze(self, table: str) -> None:
        """Let the planner know of the new rows; autovacuum would do it minutes later."""
        self._idle[0].execute(sql.SQL("ANALYZE {}").format(identifier(table)))
