"""Sum minutes up to hours, and hours to days: what changed is counted anew from what is stored.

Delivery guarantees: after a run each hour and day equals a recount of the rows that were committed
when the run began (test_any_order_of_writes_commits_and_runs_gives_the_recount). A run that is
killed leaves the marks of what it did not finish; a second one at the same time waits.

How a change cannot be missed: a flow marks the hour in the transaction that changes it, with that
transaction's number. A run reads the marks first and the rows later, so it sees the rows of every
mark that it saw. It removes a mark only while the mark still bears the number that was read; a mark
of a transaction that is open is locked, and stays too.

Back pressure: none. A run never waits for a flow; a flow waits for a run at most while it removes
the marks of one day.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import LiteralString

import psycopg
from psycopg import IsolationLevel, sql

from flows.connectors.postgres import identifier
from flows.domain.rollups import ROLLUPS, Grain, Rollup

LOCK = 7_305_800_914  # any number: roll-ups and retention of one database take turns
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOURS = {r.finer.name: r for r in ROLLUPS if r.grain is Grain.HOUR}
DAYS = {r.finer.name: r for r in ROLLUPS if r.grain is Grain.DAY}
Span = tuple[datetime, datetime]
"""`[start, end)`."""
DELETE_COUNTED = sql.SQL(
    "DELETE FROM {} WHERE window_start >= %s AND window_start < %s AND partition = 0"
)
# What an open transaction has marked again is locked: its mark must stay, so it is skipped. Waiting
# for it could be a deadlock, since that flow may wait for another mark that this run holds.
REMOVE_MARKS = (
    "DELETE FROM ops.changes WHERE ctid IN ( SELECT c.ctid FROM ops.changes AS c JOIN"
    " unnest(%s::text[], %s::timestamptz[], %s::integer[], %s::text[]) AS seen (source, hour,"
    " writer, changed_by) ON (c.source, c.hour, c.writer, c.changed_by) = (seen.source, seen.hour,"
    " seen.writer, seen.changed_by::xid8) FOR UPDATE OF c SKIP LOCKED)"
)


@dataclass(frozen=True)
class ChangeMark:
    """A changed hour of a table of minutes: a row of ops.changes.

    State: `changed_by` is the number of the transaction that marked it last.
    """

    source: str
    hour: datetime
    writer: int
    changed_by: str


@dataclass(frozen=True)
class RollupRun:
    """What a run did.

    Units: hours counted anew; rows of hours and days that changed; changed hours that were refused
    because their minutes were dropped before.
    """

    hours: int = 0
    rows: int = 0
    refused: int = 0

    def __add__(self, other: RollupRun) -> RollupRun:
        return RollupRun(
            self.hours + other.hours, self.rows + other.rows, self.refused + other.refused
        )


def mark_all_hours(db: psycopg.Connection, source: str) -> None:
    """Mark every hour of a table of minutes, such as one that had minutes before it had hours."""
    db.execute(
        sql.SQL(
            "INSERT INTO ops.changes (source, hour) SELECT DISTINCT {name}, date_bin('1 hour',"
            " window_start, {epoch}) FROM {table} ON CONFLICT DO NOTHING"
        ).format(name=sql.Literal(source), epoch=sql.Literal(EPOCH), table=identifier(source))
    )


def floor(moment: datetime, width: timedelta) -> datetime:
    """Give the start of the UTC hour or day that a moment is in."""
    return EPOCH + (moment - EPOCH) // width * width


@contextmanager
def job_lock(db: psycopg.Connection) -> Iterator[None]:
    """Wait until no other roll-up or retention runs, and keep others out for the block.

    State: the connection reads committed data from here on, so that each statement sees what was
    committed before it began.
    """
    db.isolation_level = IsolationLevel.READ_COMMITTED
    db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        yield
    finally:
        if not db.closed:
            db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def roll_up(db: psycopg.Connection) -> RollupRun:
    """Bring hours and days up to date with everything that was committed before.

    The connection must be in autocommit: each day is a transaction of its own.
    """
    began = time.monotonic()
    run = RollupRun()
    with job_lock(db):
        marks_by_day: dict[datetime, list[ChangeMark]] = defaultdict(list)
        for mark in read_marks(db):
            marks_by_day[floor(mark.hour, DAY)].append(mark)
        # newest first: after a long pause people look at today before they look at last week
        for day in sorted(marks_by_day, reverse=True):
            with db.transaction():
                run += roll_day(db, marks_by_day[day])
            remove_marks(db, marks_by_day[day])
        summary = f"{run.hours} hours, {run.rows} rows, {run.refused} refused"
        record_run(db, "rollup", time.monotonic() - began, summary)
    return run


def rebuild(db: psycopg.Connection) -> RollupRun:
    """Count every hour and day anew whose minutes are there, after a change that no flow made.

    Synthetic rows stay: they may have hours without minutes.
    """
    run = RollupRun()
    with job_lock(db):
        for source, by_hour in HOURS.items():
            by_day = DAYS[by_hour.table.name]
            sealed_before = read_sealed(db).get(source, EPOCH)
            for day in days_of(db, by_hour, sealed_before):
                span = day, day + DAY
                with db.transaction():
                    for rollup in (by_hour, by_day):
                        db.execute(DELETE_COUNTED.format(identifier(rollup.table.name)), span)
                        run += RollupRun(rows=recount(db, rollup, span))
                run += RollupRun(hours=24)
    return run


def days_of(db: psycopg.Connection, by_hour: Rollup, since: datetime) -> list[datetime]:
    """List the days that have minutes, or hours that may have lost theirs."""
    query = sql.SQL(
        "SELECT DISTINCT date_bin('1 day', window_start, {epoch}) FROM {minutes} WHERE window_start"
        " >= {since} UNION SELECT date_bin('1 day', window_start, {epoch}) FROM {hours} WHERE"
        " window_start >= {since} AND partition = 0 ORDER BY 1"
    ).format(
        epoch=sql.Literal(EPOCH),
        since=sql.Literal(since),
        minutes=identifier(by_hour.finer.name),
        hours=identifier(by_hour.table.name),
    )
    return [day for (day,) in db.execute(query)]


def read_sealed(db: psycopg.Connection) -> dict[str, datetime]:
    """Give the moment of each table before which its rows may have been dropped."""
    return dict(db.execute("SELECT table_name, before FROM ops.sealed").fetchall())


def read_marks(db: psycopg.Connection) -> list[ChangeMark]:
    """Read the marks of all changes that are committed."""
    return [
        ChangeMark(*row)
        for row in db.execute("SELECT source, hour, writer, changed_by::text FROM ops.changes")
    ]


def remove_marks(db: psycopg.Connection, marks: list[ChangeMark]) -> None:
    """Remove the marks that no flow has renewed since they were read."""
    with db.transaction():
        # A mark that a crash of the server brings back is only counted once more. Waiting for the
        # disk would hold the locks of the marks for longer, and flows wait for those.
        db.execute("SET LOCAL synchronous_commit = off")
        columns = zip(*((m.source, m.hour, m.writer, m.changed_by) for m in marks), strict=True)
        db.execute(REMOVE_MARKS, tuple(map(list, columns)))


def roll_day(db: psycopg.Connection, marks: list[ChangeMark]) -> RollupRun:
    """Count the marked hours of one day anew, and then the day.

    Hours are kept as long as their minutes or longer (a wrong setting is refused), so the hours
    that a day is summed from are there whenever the minutes are.
    """
    sealed = read_sealed(db)
    day = floor(marks[0].hour, DAY)
    run = RollupRun()
    for source in sorted({m.source for m in marks} & HOURS.keys()):
        hours = sorted({m.hour for m in marks if m.source == source})
        sealed_before = sealed.get(source, EPOCH)
        by_hour = HOURS[source]
        refused = counted_before(db, by_hour, [hour for hour in hours if hour < sealed_before])
        record_refused(db, source, refused)
        hours = [hour for hour in hours if hour not in refused]
        rows = sum(recount(db, by_hour, span) for span in spans(hours))
        if rows:
            rows += recount(db, DAYS[by_hour.table.name], (day, day + DAY))
        run += RollupRun(len(hours), rows, len(refused))
    return run


def counted_before(db: psycopg.Connection, rollup: Rollup, hours: list[datetime]) -> list[datetime]:
    """Give those of the hours that were counted: some of what they were counted from is dropped.

    An hour that never was, as of a past that is imported now, has all its minutes still.
    """
    if not hours:
        return []
    query = sql.SQL(
        "SELECT DISTINCT window_start FROM {} WHERE partition = 0 AND window_start = ANY(%s)"
    ).format(identifier(rollup.table.name))
    return sorted(hour for (hour,) in db.execute(query, (hours,)))


def spans(hours: list[datetime]) -> Iterator[Span]:
    """Join hours that follow each other: 1, 2, 3 and 5 o'clock are [1, 4) and [5, 6)."""
    start = end = None
    for hour in hours:
        if start is None or hour != end:
            if start is not None and end is not None:
                yield start, end
            start = hour
        end = hour + HOUR
    if start is not None and end is not None:
        yield start, end


def recount(db: psycopg.Connection, rollup: Rollup, span: Span) -> int:
    """Sum the finer rows of a span; gives how many coarser rows are new or different."""
    # A prepared plan holds for any span and has to think of every chunk of the table: one made for
    # this span leaves out all chunks but its own.
    return db.execute(
        recount_statement(rollup),
        {"start": span[0], "end": span[1], "width": rollup.width},
        prepare=False,
    ).rowcount


@cache
def recount_statement(rollup: Rollup) -> sql.Composed:
    """Compose the statement of `recount`, which writes only rows that differ."""

    def names(columns: Iterable[str], form: LiteralString = "{}") -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(c)) for c in columns)

    return sql.SQL(
        "INSERT INTO {table} AS stored (window_start, partition, {by}, {sums}) SELECT"
        " date_bin(%(width)s, window_start, TIMESTAMPTZ '2000-01-01 00:00:00+00'), least(partition,"
        " 0), {by}, {totals} FROM {finer} WHERE window_start >= %(start)s AND window_start <"
        " %(end)s GROUP BY 1, 2, {by} ORDER BY 1, 2, {by} ON CONFLICT ({keys}) DO UPDATE SET"
        " {changes} WHERE ({old}) IS DISTINCT FROM ({new})"
    ).format(
        table=identifier(rollup.table.name),
        finer=identifier(rollup.finer.name),
        by=names(rollup.by),
        sums=names(rollup.sums),
        totals=names(rollup.sums, "sum({})::bigint"),
        keys=names(rollup.table.keys),
        changes=names(rollup.sums, "{0} = excluded.{0}"),
        old=names(rollup.sums, "stored.{}"),
        new=names(rollup.sums, "excluded.{}"),
    )


def record_refused(db: psycopg.Connection, source: str, windows: list[datetime]) -> None:
    """Record changes of windows whose rows were dropped: a sum of what is left would be wrong."""
    for window in windows:
        db.execute(
            "INSERT INTO ops.sealed_changes AS known (source, window_start, times) VALUES (%s, %s,"
            " 1) ON CONFLICT (source, window_start) DO UPDATE SET times = known.times + 1,"
            " last_seen = clock_timestamp()",
            (source, window),
        )


def record_run(db: psycopg.Connection, job: str, took_seconds: float, summary: str) -> None:
    """Record in ops.jobs when a job last did its work, and what it did."""
    db.execute(
        "INSERT INTO ops.jobs AS known (job, finished_at, took_seconds, said) VALUES (%s,"
        " clock_timestamp(), %s, %s) ON CONFLICT (job) DO UPDATE SET (finished_at, took_seconds,"
        " said) = (excluded.finished_at, excluded.took_seconds, excluded.said)",
        (job, took_seconds, summary),
    )
