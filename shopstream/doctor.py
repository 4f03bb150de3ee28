"""`shopstream doctor`: look at everything that a flow needs, and say what to do about each finding."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

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


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do; without `todo` all is well."""

    what: str
    found: str
    todo: str = ""


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    try:
        settings = load_settings()
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"BAD  settings: {line}", file=sys.stderr)
        return ConfigError.exit_code
    bad = 0
    for finding in examine(settings):
        bad += bool(finding.todo)
        print(
            f"{'BAD ' if finding.todo else 'ok  '} {finding.what}: {finding.found}"
            + (f". {finding.todo}" if finding.todo else "")
        )
    return 1 if bad else 0


def examine(settings: Settings) -> Iterator[Finding]:
    named = [n for n in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL") if n not in os.environ]
    yield Finding(
        "settings", "all readable" + (f"; by default: {', '.join(named)}" if named else "")
    )
    yield from examine_kafka(settings)
    yield from examine_database(settings)


def examine_kafka(settings: Settings) -> Iterator[Finding]:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
    try:
        there = topics.existing(admin, 5.0)
    except ShopstreamError as error:
        yield Finding(
            "broker",
            f"{settings.bootstrap}: {error}",
            "Start it (`make services`) or set KAFKA_BOOTSTRAP_SERVERS",
        )
        return
    yield Finding("broker", f"{settings.bootstrap} answers")
    expected = topics.wanted(settings, 4, there)
    try:
        wrong = topics.differences(admin, [t for t in expected if t.name in there])
    except ShopstreamError as error:
        wrong = {}
        yield Finding(
            "topic settings", str(error), "An embedded broker has none; else check rights"
        )
    for topic in expected:
        if topic.name not in there:
            yield Finding(f"topic {topic.name}", "missing", "Run `python -m shopstream topics`")
        elif wrong.get(topic.name):
            changes = ", ".join(
                f"{k} is {was}, should be {want}" for k, (was, want) in wrong[topic.name].items()
            )
            yield Finding(f"topic {topic.name}", changes, "Run `python -m shopstream topics`")
        else:
            yield Finding(f"topic {topic.name}", f"{there[topic.name]} partitions")
    for line in topics.unequal(settings, there):
        yield Finding(
            "partitions", line, "They must be equal: make the clean topic anew with as many as raw"
        )


def examine_database(settings: Settings) -> Iterator[Finding]:
    try:
        db = connect(settings.database_url, 3.0)
    except ShopstreamError as error:
        yield Finding("database", str(error), "Start it (`make services`) or set DATABASE_URL")
        return
    with db:
        version = scalar(db, "SHOW server_version")
        yield Finding("database", f"PostgreSQL {version}")
        licence = scalar(db, "SELECT current_setting('timescaledb.license', true)")
        edition = {None: "none", "": "none", "apache": "apache"}.get(licence, "timescale")
        yield Finding(
            "edition", edition + ("" if edition != "none" else ": plain tables, every query works")
        )
        yield from examine_schema(db)
        skew = (datetime.now(UTC) - scalar(db, "SELECT clock_timestamp()")).total_seconds()
        todo = (
            "Synchronise the clocks (NTP): latency and freshness are measured across them"
            if abs(skew) > SKEW_SECONDS
            else ""
        )
        yield Finding("clock", f"the database is {-skew:+.3f} s from here", todo)


def examine_schema(db: psycopg.Connection) -> Iterator[Finding]:
    if scalar(db, "SELECT to_regclass('ops.migrations')") is None:
        yield Finding("schema", "not there", "Run `python -m shopstream migrate`")
        return
    done = {name for (name,) in db.execute("SELECT name FROM ops.migrations")}
    files = {file.stem for file in SQL.glob("[0-9]*.sql")}
    if files - done:
        yield Finding(
            "schema",
            f"without {', '.join(sorted(files - done))}",
            "Run `python -m shopstream migrate`",
        )
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
                f"table {table.name}",
                f"without {', '.join(sorted(missing))}",
                "Run `python -m shopstream migrate`",
            )
    if not files - done:
        yield Finding("schema", f"level {max(files)}")
        yield from examine_rollups(db)


def examine_rollups(db: psycopg.Connection) -> Iterator[Finding]:
    """Whether somebody keeps hours and days up to date, and whether any change came too late for
    them.
    """
    marks = scalar(db, "SELECT count(DISTINCT hour) FROM ops.changes")
    since = scalar(
        db,
        "SELECT extract(epoch FROM now() - finished_at)::bigint FROM ops.jobs WHERE job = 'rollup'",
    )
    found = "never rolled up" if since is None else f"last rolled up {since} s ago"
    behind = marks and (since is None or since > ROLLUP_SECONDS)
    todo = "Run `python -m shopstream rollup --every 10`; `shopstream up` does" if behind else ""
    yield Finding("hours and days", f"{found}, {marks} changed hours wait", todo)
    if (late := scalar(db, "SELECT count(*) FROM ops.sealed_changes")) > 0:
        todo = (
            "See ops.sealed_changes: keep minutes longer than logs are replayed"
            " (SHOPSTREAM_RETENTION_1M_DAYS)"
        )
        yield Finding(
            "sealed hours",
            f"{late} changed after their minutes were dropped; their roll-ups did not",
            todo,
        )


# whatever the query says
def scalar(db: psycopg.Connection, query: str):  # type: ignore[no-untyped-def]
    row = db.execute(query).fetchone()
    return None if row is None else row[0]
