"""Look at the database: the server, the schema, the roll-ups and the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from database.connection import connect
from database.migrate import SQL, TABLES
from flows.domain.errors import ShopstreamError
from flows.runtime.settings import Settings
from shopstream.doctor.finding import Finding
from shopstream.doctor.numbers import examine_numbers

SKEW_SECONDS = 1.0
# six runs of the job that `up` starts
ROLLUP_SECONDS = 60
RUN_MIGRATE = "Run `python -m shopstream migrate`"


def examine_database(settings: Settings) -> Iterator[Finding]:
    """Look at the server, the schema, the roll-ups and the clock."""
    try:
        db = connect(settings.database_url, 3.0)
    except ShopstreamError as error:
        yield Finding("database", str(error), "Start it (`make services`) or set DATABASE_URL")
        return
    with db:
        yield Finding("database", f"PostgreSQL {_scalar(db, 'SHOW server_version')}")
        licence = _scalar(db, "SELECT current_setting('timescaledb.license', true)")
        edition = {None: "none", "": "none", "apache": "apache"}.get(licence, "timescale")
        yield Finding(
            "edition", edition + ("" if edition != "none" else ": plain tables, every query works")
        )
        yield from examine_schema(db)
        skew = (datetime.now(UTC) - _scalar(db, "SELECT clock_timestamp()")).total_seconds()
        todo = (
            "Synchronise the clocks (NTP): latency and freshness are measured across them"
            if abs(skew) > SKEW_SECONDS
            else ""
        )
        yield Finding("clock", f"the database is {-skew:+.3f} s from here", todo)


def examine_schema(db: psycopg.Connection) -> Iterator[Finding]:
    """Look at the migrations and the columns of all tables."""
    if _scalar(db, "SELECT to_regclass('ops.migrations')") is None:
        yield Finding("schema", "not there", RUN_MIGRATE)
        return
    applied = {name for (name,) in db.execute("SELECT name FROM ops.migrations")}
    files = {file.stem for file in SQL.glob("[0-9]*.sql")}
    if files - applied:
        yield Finding("schema", f"without {', '.join(sorted(files - applied))}", RUN_MIGRATE)
    for table in TABLES:
        columns = {
            name
            for (name,) in db.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
                " AND NOT attisdropped",
                (table.name,),
            )
        }
        if missing := table.columns.keys() - columns:
            yield Finding(
                f"table {table.name}", f"without {', '.join(sorted(missing))}", RUN_MIGRATE
            )
    if not files - applied:
        yield Finding("schema", f"level {max(files)}")
        yield from examine_rollups(db)
        yield from examine_numbers(db)


def examine_rollups(db: psycopg.Connection) -> Iterator[Finding]:
    """Look whether hours and days are kept up to date, and whether a change came too late."""
    waiting_hours = _scalar(db, "SELECT count(DISTINCT hour) FROM ops.changes")
    since = _scalar(
        db,
        "SELECT extract(epoch FROM now() - finished_at)::bigint FROM ops.jobs WHERE job = 'rollup'",
    )
    last = "never rolled up" if since is None else f"last rolled up {since} s ago"
    is_behind = waiting_hours and (since is None or since > ROLLUP_SECONDS)
    todo = "Run `python -m shopstream rollup --every 10`; `shopstream up` does" if is_behind else ""
    yield Finding("hours and days", f"{last}, {waiting_hours} changed hours wait", todo)
    if (late := _scalar(db, "SELECT count(*) FROM ops.sealed_changes")) > 0:
        yield Finding(
            "sealed hours",
            f"{late} changed after their minutes were dropped; their roll-ups did not",
            "See ops.sealed_changes: keep minutes longer than logs are replayed"
            " (SHOPSTREAM_RETENTION_1M_DAYS)",
        )


def _scalar(db: psycopg.Connection, query: str) -> Any:
    row = db.execute(query.encode()).fetchone()
    return None if row is None else row[0]
