"""Sum minutes up to hours, and hours to days: what changed is counted anew from what is stored.

Delivery guarantees: after a run each hour and day equals a recount of the rows that were committed
when the run began (test_any_order_of_writes_commits_and_runs_gives_the_recount). A run that is
killed leaves the marks of what it did not finish; a second one at the same time waits.

How a change cannot be missed: a flow marks the hour in the transaction that changes it, with that
transaction's number. A run reads the marks first and the rows later, so it sees the rows of every
mark that it saw. It takes away a mark only when it still bears the number that was read; a mark of
a transaction that is open is locked, and stays too.

Back pressure: none. Flows never wait for a run, and a run never waits for a flow.
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
CLEAR = sql.SQL("DELETE FROM {} WHERE window_start >= %s AND window_start < %s AND partition = 0")
# what an open transaction has marked again is locked: skipping it is right, and waiting could be a
# deadlock
UNMARK = (
    "DELETE FROM ops.changes WHERE ctid IN ( SELECT c.ctid FROM ops.changes AS c JOIN"
    " unnest(%s::text[], %s::timestamptz[], %s::integer[], %s::text[]) AS seen (source, hour,"
    " writer, changed_by) ON (c.source, c.hour, c.writer, c.changed_by) = (seen.source, seen.hour,"
    " seen.writer, seen.changed_by::xid8) FOR UPDATE OF c SKIP LOCKED)"
)


@dataclass(frozen=True)
class Mark:
    """A changed hour. `changed_by` is the transaction that marked it last."""

    source: str
    hour: datetime
    writer: int
    changed_by: str


@dataclass
class Rolled:
    """What a run did: hours looked at, rows of hours and days that changed, changes that came too
    late to be counted.
    """

    hours: int = 0
    rows: int = 0
    refused: int = 0


def mark_everything(db: psycopg.Connection, source: str) -> None:
    """Mark every hour of a table: of one that had minutes before it had hours."""
    db.execute(
        sql.SQL(
            "INSERT INTO ops.changes (source, hour) SELECT DISTINCT {name}, date_bin('1 hour',"
            " window_start, {epoch}) FROM {table} ON CONFLICT DO NOTHING"
        ).format(name=sql.Literal(source), epoch=sql.Literal(EPOCH), table=identifier(source))
    )


def floor(moment: datetime, width: timedelta) -> datetime:
    """The start of the UTC hour or day."""
    return EPOCH + (moment - EPOCH) // width * width


@contextmanager
def job_lock(db: psycopg.Connection) -> Iterator[None]:
    """Wait until no other roll-up or retention runs. Statements then see what was committed before
    each of them.
    """
    db.isolation_level = IsolationLevel.READ_COMMITTED
    db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        yield
    finally:
        if not db.closed:
            db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def roll_up(db: psycopg.Connection) -> Rolled:
    """Bring hours and days up to date with everything that was committed before. The connection is
    in autocommit.
    """
    began = time.monotonic()
    done = Rolled()
    with job_lock(db):
        marks = read_marks(db)
        by_day: dict[datetime, list[Mark]] = defaultdict(list)
        for one in marks:
            by_day[floor(one.hour, DAY)].append(one)
        for day in sorted(by_day, reverse=True):  # after a long pause people look at today first
            with db.transaction():
                roll_day(db, by_day[day], done)
            unmark(db, by_day[day])
        tell(
            db,
            "rollup",
            time.monotonic() - began,
            f"{done.hours} hours, {done.rows} rows, {done.refused} refused",
        )
    return done


def rebuild(db: psycopg.Connection) -> Rolled:
    """Count every hour and day anew of which the minutes are there: after a change of minutes that
    no flow made.

    Synthetic rows may have hours without minutes, and stay.
    """
    done = Rolled()
    with job_lock(db):
        for source, by_hour in HOURS.items():
            by_day = DAYS[by_hour.table.name]
            before = read_sealed(db).get(source, EPOCH)
            for day in days_of(db, by_hour, before):
                span = day, day + DAY
                with db.transaction():
                    for rollup in (by_hour, by_day):
                        db.execute(CLEAR.format(identifier(rollup.table.name)), span)
                        done.rows += recount(db, rollup, span)
                done.hours += 24
    return done


def days_of(db: psycopg.Connection, by_hour: Rollup, before: datetime) -> list[datetime]:
    """The days of which there are minutes, or hours that may have lost theirs."""
    query = sql.SQL(
        "SELECT DISTINCT date_bin('1 day', window_start, {epoch}) FROM {minutes} WHERE window_start"
        " >= {before} UNION SELECT date_bin('1 day', window_start, {epoch}) FROM {hours} WHERE"
        " window_start >= {before} AND partition = 0 ORDER BY 1"
    ).format(
        epoch=sql.Literal(EPOCH),
        before=sql.Literal(before),
        minutes=identifier(by_hour.finer.name),
        hours=identifier(by_hour.table.name),
    )
    return [day for (day,) in db.execute(query)]


def read_sealed(db: psycopg.Connection) -> dict[str, datetime]:
    """Table -> before when its rows may have been dropped."""
    return dict(db.execute("SELECT table_name, before FROM ops.sealed").fetchall())


def read_marks(db: psycopg.Connection) -> list[Mark]:
    return [
        Mark(*row)
        for row in db.execute("SELECT source, hour, writer, changed_by::text FROM ops.changes")
    ]


def unmark(db: psycopg.Connection, marks: list[Mark]) -> None:
    """Take away the marks that nobody has touched since.

    Without waiting for the disk: what a crash brings back is only counted once more, and flows do
    not wait meanwhile.
    """
    with db.transaction():
        db.execute("SET LOCAL synchronous_commit = off")
        columns = zip(*((m.source, m.hour, m.writer, m.changed_by) for m in marks), strict=True)
        db.execute(UNMARK, tuple(map(list, columns)))


def roll_day(db: psycopg.Connection, marks: list[Mark], done: Rolled) -> None:
    """Count the marked hours of one day anew, and then the day. Hours are kept as long as their
    minutes, or longer.
    """
    sealed = read_sealed(db)
    day = floor(marks[0].hour, DAY)
    for source in sorted({m.source for m in marks} & HOURS.keys()):
        hours = sorted({m.hour for m in marks if m.source == source})
        before = sealed.get(source, EPOCH)
        refuse(db, source, [h for h in hours if h < before], done)
        hours = [h for h in hours if h >= before]
        by_hour = HOURS[source]
        rows = sum(recount(db, by_hour, span) for span in spans(hours))
        if rows:
            rows += recount(db, DAYS[by_hour.table.name], (day, day + DAY))
        done.hours += len(hours)
        done.rows += rows


def spans(hours: list[datetime]) -> Iterator[Span]:
    """Hours that follow each other, as one."""
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
    # a plan for any span would have to think of every chunk: one made for this span finds its own
    return db.execute(
        statement(rollup), {"start": span[0], "end": span[1], "width": rollup.width}, prepare=False
    ).rowcount


@cache
def statement(rollup: Rollup) -> sql.Composed:
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


def refuse(db: psycopg.Connection, source: str, windows: list[datetime], done: Rolled) -> None:
    """Note changes of windows whose rows were dropped in part or whole: summing up the rest would
    be a lie.
    """
    for window in windows:
        db.execute(
            "INSERT INTO ops.sealed_changes AS known (source, window_start, times) VALUES (%s, %s,"
            " 1) ON CONFLICT (source, window_start) DO UPDATE SET times = known.times + 1,"
            " last_seen = clock_timestamp()",
            (source, window),
        )
    done.refused += len(windows)


def tell(db: psycopg.Connection, job: str, took_seconds: float, said: str) -> None:
    db.execute(
        "INSERT INTO ops.jobs AS known (job, finished_at, took_seconds, said) VALUES (%s,"
        " clock_timestamp(), %s, %s) ON CONFLICT (job) DO UPDATE SET (finished_at, took_seconds,"
        " said) = (excluded.finished_at, excluded.took_seconds, excluded.said)",
        (job, took_seconds, said),
    )
