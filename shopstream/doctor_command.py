"""`shopstream doctor`: look at everything that a flow needs, and say what to do about it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient

from database.connection import connect
from database.migrate import SQL, TABLES
from flows.domain.errors import ConfigError, ShopstreamError
from flows.runtime.settings import Settings, load_settings
from shopstream.kafka import topics

SKEW_SECONDS = 1.0
# six runs of the job that `up` starts
ROLLUP_SECONDS = 60
RUN_MIGRATE = "Run `python -m shopstream migrate`"
RUN_TOPICS = "Run `python -m shopstream topics`"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do; without `todo` all is well."""

    what: str
    found: str
    todo: str = ""


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
    yield from examine_kafka(settings)
    yield from examine_database(settings)


def examine_kafka(settings: Settings) -> Iterator[Finding]:
    """Look at the broker, the topics and their settings."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
    try:
        partitions_of = topics.existing(admin, 5.0)
    except ShopstreamError as error:
        yield Finding(
            "broker",
            f"{settings.bootstrap}: {error}",
            "Start it (`make services`) or set KAFKA_BOOTSTRAP_SERVERS",
        )
        return
    yield Finding("broker", f"{settings.bootstrap} answers")
    expected = topics.wanted(settings, 4, partitions_of)
    try:
        differences = topics.differences(admin, [t for t in expected if t.name in partitions_of])
    except ShopstreamError as error:
        differences = {}
        yield Finding(
            "topic settings", str(error), "An embedded broker has none; else check rights"
        )
    for topic in expected:
        yield examine_topic(topic.name, partitions_of, differences)
    for line in topics.unequal(settings, partitions_of):
        yield Finding(
            "partitions", line, "They must be equal: make the clean topic anew with as many as raw"
        )


def examine_topic(
    topic: str, partitions_of: dict[str, int], differences: topics.Differences
) -> Finding:
    """Look at one topic."""
    if topic not in partitions_of:
        return Finding(f"topic {topic}", "missing", RUN_TOPICS)
    if differences.get(topic):
        settings = ", ".join(
            f"{name} is {value}, should be {wanted}"
            for name, (value, wanted) in differences[topic].items()
        )
        return Finding(f"topic {topic}", settings, RUN_TOPICS)
    return Finding(f"topic {topic}", f"{partitions_of[topic]} partitions")


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
