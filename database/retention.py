"""Drop rows that are old enough: whole chunks with TimescaleDB, rows without it.

Hours and days are summed up first, and outlive their minutes. What was dropped is sealed in the
same transaction: no roll-up is counted anew from what is left (test_hours_outlive_their_minutes).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from database.rollup import DAY, floor, job_lock, record_run, roll_up
from flows.domain.rollups import BY_GRAIN, Grain
from flows.domain.tables import DEAD_LETTERS, Table
from flows.runtime.settings import Settings

# Dropping a chunk waits for the dashboards that read it, and every later query waits behind it:
# giving up and trying again an hour later costs nobody anything.
LOCK_TIMEOUT = "5s"


@dataclass(frozen=True)
class RetentionPolicy:
    """How long rows are kept.

    Units: days; 0 keeps all.
    """

    by_grain: Mapping[Grain, int]
    dead_letters: int

    @classmethod
    def of(cls, settings: Settings) -> RetentionPolicy:
        """Read the policy from the settings."""
        by_grain = {
            Grain.MINUTE: settings.retention_1m_days,
            Grain.HOUR: settings.retention_1h_days,
            Grain.DAY: settings.retention_1d_days,
        }
        return cls(by_grain, settings.retention_dead_letters_days)

    def tables(self) -> list[tuple[Table, int]]:
        """List the tables that lose rows and the days that each keeps, finest grain first."""
        grains = [
            (table, days) for grain, days in self.by_grain.items() for table in BY_GRAIN[grain]
        ]
        return [
            (table, days) for table, days in [*grains, (DEAD_LETTERS, self.dead_letters)] if days
        ]


@dataclass(frozen=True)
class DroppedRows:
    """What went from a table: everything before a midnight.

    Units: `amount` is in words, such as `3 chunks` or `120 rows`; empty where nothing went.
    Time: UTC.
    """

    table: str
    before: datetime
    amount: str


def drop_old_rows(db: psycopg.Connection, policy: RetentionPolicy) -> list[DroppedRows]:
    """Roll up, then drop what is older than the policy keeps; list the tables that lost rows.

    The connection must be in autocommit.

    Time: the database's clock.
    """
    began = time.monotonic()
    roll_up(db)
    with job_lock(db):
        results = []
        for table, days in policy.tables():
            before = floor(_now(db), DAY) - timedelta(days=days)
            results.append(DroppedRows(table.name, before, _drop_from(db, table, before)))
        dropped = [rows for rows in results if rows.amount]
        summary = "; ".join(f"{rows.table}: {rows.amount}" for rows in dropped)
        record_run(db, "retention", time.monotonic() - began, summary)
    return dropped


def _now(db: psycopg.Connection) -> datetime:
    row = db.execute("SELECT now()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def _drop_from(db: psycopg.Connection, table: Table, before: datetime) -> str:
    """Seal a table and drop its old rows; gives the amount in words, or nothing."""
    with db.transaction():
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        db.execute(
            "INSERT INTO ops.sealed AS known (table_name, before) VALUES (%s, %s)"
            " ON CONFLICT (table_name)"
            " DO UPDATE SET before = greatest(known.before, excluded.before)",
            (table.name, before),
        )
        row = db.execute("SELECT ops.forget(%s, %s)", (table.name, before)).fetchone()
    return str(row[0]) if row is not None and row[0] else ""
