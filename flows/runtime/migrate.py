"""Make the database fit the catalogue: schemas, tables, views, hypertables, roles. Running it again changes nothing.

Tables and gold views follow from `flows/domain/tables.py` and the metric catalogue; the rest is in `sql/`, in order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg import sql

from flows.domain.errors import PermanentError, TransientError
from flows.domain.metrics import CATALOGUE, MetricTable
from flows.domain.tables import DEAD_LETTERS, GOLD, OUTCOMES, PROGRESS, RULES, Table
from flows.runtime.telemetry import migrating

SQL = Path(__file__).parents[2] / "sql"
TABLES = (*GOLD.values(), OUTCOMES, RULES, DEAD_LETTERS, PROGRESS)
LOCK = 7_305_800_913  # any number: two migrations at once wait for each other
NULLABLE = {"source_key", "payload", "schema_fingerprint", "app_version"}


# A row of an open window is replaced many times a second. With room in its page the new version stays there and no index
# changes; without, an upsert wades through dead entries (three times the CPU at 16,700 events/s, bench/README.md).
ROOM = sql.SQL("WITH (fillfactor = 50)")


class Edition(StrEnum):
    """What the server can do: plain PostgreSQL, TimescaleDB's Apache edition, or the full one."""

    NONE = "none"
    APACHE = "apache"
    TIMESCALE = "timescale"


@dataclass(frozen=True)
class Migrated:
    edition: Edition
    applied: list[str]


def connect(url: str, patience_seconds: float) -> psycopg.Connection:
    """A connection in UTC. Errors: TransientError when the database does not answer in time."""
    until = time.monotonic() + patience_seconds
    while True:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5, options="-c timezone=UTC")
        except psycopg.OperationalError as error:
            if "does not exist" in str(error) or "authentication failed" in str(error):
                raise PermanentError(f"database: {str(error).strip().splitlines()[-1]}") from error
            if time.monotonic() > until:
                raise TransientError(f"database does not answer: {str(error).strip().splitlines()[-1]}") from error
            migrating.database_silent(str(error).strip().splitlines()[-1])
            time.sleep(0.5)


def migrate(url: str, patience_seconds: float = 30.0) -> Migrated:
    """Bring the database up to date. Errors: PermanentError when the role may not."""
    with connect(url, patience_seconds) as db:
        db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            edition = edition_of(db)
            with db.transaction():
                applied = apply(db, edition)
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermanentError(f"migrate: {str(error).splitlines()[0]}") from error
        finally:
            db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return Migrated(edition, applied)


def edition_of(db: psycopg.Connection) -> Edition:
    """Detect the edition, and create the extension where it is installed but not yet in this database."""
    found = db.execute("SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if found is None:
        return Edition.NONE
    if found[0] is None:
        try:
            db.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg.Error as error:
            migrating.extension_unusable(str(error).splitlines()[0])
            return Edition.NONE
    licence = db.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return Edition.APACHE if licence and licence[0] == "apache" else Edition.TIMESCALE


def apply(db: psycopg.Connection, edition: Edition) -> list[str]:
    files = sorted(SQL.glob("[0-9]*.sql"))
    run(db, files[0])
    for table in TABLES:
        create(db, table, edition)
    if edition is Edition.NONE:
        bucket(db)
    for metric in CATALOGUE:
        view(db, metric)
    for file in files[1:]:
        run(db, file)
    done = {name for (name,) in db.execute("SELECT name FROM ops.migrations")}
    new = [file.stem for file in files if file.stem not in done]
    for name in new:
        db.execute("INSERT INTO ops.migrations (name) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
    return new


def run(db: psycopg.Connection, file: Path) -> None:
    db.execute(file.read_text())  # our own file


def identifier(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


def create(db: psycopg.Connection, table: Table, edition: Edition) -> None:
    """Create the table, or add the columns that a new measure brought."""
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(name),
            sql.SQL(kind),
            sql.SQL("" if name in NULLABLE else " NOT NULL"),
        )
        for name, kind in table.columns.items()
    ]
    keys = sql.SQL(", ").join(map(sql.Identifier, table.keys))
    db.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})) {}").format(
            identifier(table.name), sql.SQL(", ").join(columns), keys, ROOM if table.guard else sql.SQL("")
        )
    )
    for name, kind in table.columns.items():
        if kind == "bigint":
            db.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} bigint NOT NULL DEFAULT 0").format(
                    identifier(table.name), sql.Identifier(name)
                )
            )
    if edition is not Edition.NONE and "window_start" in table.keys:
        db.execute(
            "SELECT create_hypertable(%s::regclass, by_range('window_start', INTERVAL '7 days'), if_not_exists => true,"
            " migrate_data => true, create_default_indexes => false)",
            (table.name,),
        )


def bucket(db: psycopg.Connection) -> None:
    """TimescaleDB's time_bucket for a server without it, so that every panel works; weeks start on the same Monday."""
    db.execute(
        "CREATE OR REPLACE FUNCTION public.time_bucket(width interval, moment timestamptz) RETURNS timestamptz"
        " LANGUAGE sql IMMUTABLE PARALLEL SAFE AS"
        " $$ SELECT date_bin(width, moment, TIMESTAMPTZ '2000-01-03 00:00:00+00') $$"
    )


def view(db: psycopg.Connection, metric: MetricTable) -> None:
    """The view that people and panels read: partitions summed, formulas computed."""
    keys = sql.SQL(", ").join(map(sql.Identifier, ("window_start", *(d.name for d in metric.by))))
    sums = sql.SQL(", ").join(sql.SQL("sum({0})::bigint AS {0}").format(sql.Identifier(m.name)) for m in metric.stored)
    names = sql.SQL(", ").join(
        sql.Identifier(m.name)
        if m.formula is None
        else sql.SQL("{} AS {}").format(sql.SQL(m.formula), sql.Identifier(m.name))
        for m in metric.measures
    )
    name = identifier(f"gold.{metric.name}")
    query = sql.SQL(
        "SELECT {keys}, {names} FROM (SELECT {keys}, {sums} FROM {table} GROUP BY {keys}) AS summed"
    ).format(keys=keys, names=names, sums=sums, table=identifier(GOLD[metric.name].name))
    try:
        with db.transaction():
            db.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(name, query))
    except psycopg.errors.InvalidTableDefinition:  # columns moved: a view is only a query, make it anew
        db.execute(sql.SQL("DROP VIEW {}").format(name))
        db.execute(sql.SQL("CREATE VIEW {} AS {}").format(name, query))
