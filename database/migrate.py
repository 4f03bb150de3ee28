"""Make the database fit the catalogue: schemas, tables, views, hypertables, roles.

Running it again changes nothing (test_migrating_again_changes_nothing). Tables and gold views
follow from `flows/domain/tables.py` and the metric catalogue; the rest is in `sql/`, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from database.annotations import annotate, columns_of, schema_change
from database.connection import connect
from database.editions import (
    Edition,
    compress,
    create_retention_function,
    create_time_bucket,
    edition_of,
    make_hypertable,
)
from database.ranges import create_ranges
from database.rollup import mark_all_hours
from database.views import create_views
from flows.connectors.postgres import identifier, reason
from flows.domain.errors import PermanentError
from flows.domain.rollups import BY_GRAIN, ROLLUPS, Grain
from flows.domain.tables import OTHER_TABLES, Table

SQL = Path(__file__).parent / "sql"
TABLES = (*(table for tables in BY_GRAIN.values() for table in tables), *OTHER_TABLES)
LOCK = 7_305_800_913  # any number: two migrations at once wait for each other
# of dead letters; a key that is called so is never null
NULLABLE = {
    *("source_key", "payload", "schema_fingerprint", "app_version"),
    *("event_type", "amount_minor", "amount_currency"),
}

# A row of an open window is replaced many times a second. With room in its page the new version
# stays there and no index changes; without, an upsert wades through dead entries (three times the
# CPU at 16,700 events/s, bench/README.md).
FILLFACTOR = sql.SQL("WITH (fillfactor = 50)")


@dataclass(frozen=True)
class Migrated:
    """What a migration found and did: the edition, and the SQL files that were new."""

    edition: Edition
    applied: list[str]


def migrate(url: str, patience_seconds: float = 30.0) -> Migrated:
    """Bring the database up to date.

    Errors: PermanentError when the role may not.
    """
    with connect(url, patience_seconds) as db:
        db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            edition = edition_of(db)
            with db.transaction():
                applied = apply_schema(db, edition)
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermanentError(f"migrate: {reason(error)}") from error
        finally:
            db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return Migrated(edition, applied)


def apply_schema(db: psycopg.Connection, edition: Edition) -> list[str]:
    """Make everything that is missing; list the SQL files that ran for the first time."""
    files = sorted(SQL.glob("[0-9]*.sql"))
    columns_before = columns_of(db)
    _run_file(db, files[0])
    new_rollups = [r for r in ROLLUPS if r.grain is Grain.HOUR and _is_missing(db, r.table)]
    for table in TABLES:
        create_table(db, table, edition)
    if edition is Edition.NONE:
        create_time_bucket(db)
    if edition is Edition.TIMESCALE:
        for table in BY_GRAIN[Grain.MINUTE]:
            compress(db, table)
    create_retention_function(db, edition, TABLES)
    create_views(db)
    for file in files[1:]:
        _run_file(db, file)
    create_ranges(db)
    for rollup in new_rollups:
        mark_all_hours(db, rollup.finer.name)
    if (change := schema_change(columns_before, columns_of(db))) is not None:
        annotate(db, change)
    known = {name for (name,) in db.execute("SELECT name FROM ops.migrations")}
    applied = [file.stem for file in files if file.stem not in known]
    for name in applied:
        db.execute("INSERT INTO ops.migrations (name) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
    return applied


def _is_missing(db: psycopg.Connection, table: Table) -> bool:
    return db.execute("SELECT to_regclass(%s)", (table.name,)).fetchone() == (None,)


def _run_file(db: psycopg.Connection, file: Path) -> None:
    # bytes, since a query in a str should be a literal; the text is a file of ours
    db.execute(file.read_bytes())


def create_table(db: psycopg.Connection, table: Table, edition: Edition) -> None:
    """Create the table, or add the columns that a new measure brought."""
    nullable = NULLABLE - set(table.keys)
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(name),
            sql.SQL(kind),
            sql.SQL("" if name in nullable else " NOT NULL"),
        )
        for name, kind in table.columns.items()
    ]
    keys = sql.SQL(", ").join(map(sql.Identifier, table.keys))
    db.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})) {}").format(
            identifier(table.name),
            sql.SQL(", ").join(columns),
            keys,
            FILLFACTOR if table.guard else sql.SQL(""),
        )
    )
    for name, kind in table.columns.items():
        if name in nullable:
            db.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                    identifier(table.name), sql.Identifier(name), sql.SQL(kind)
                )
            )
        elif kind == "bigint":
            db.execute(
                sql.SQL(
                    "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} bigint NOT NULL DEFAULT 0"
                ).format(identifier(table.name), sql.Identifier(name))
            )
    if table.stamp is not None:
        db.execute(
            sql.SQL(
                "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} timestamptz NOT NULL DEFAULT"
                " clock_timestamp()"
            ).format(identifier(table.name), sql.Identifier(table.stamp))
        )
    if edition is not Edition.NONE and table.chunk is not None:
        make_hypertable(db, table.name, table.chunk)
