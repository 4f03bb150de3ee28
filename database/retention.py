"""Forget rows that are old enough: whole chunks with TimescaleDB, rows without it.

Hours and days are summed up first, and outlive their minutes. What was forgotten is sealed in the
same transaction: no roll-up is ever counted anew from what is left
(test_hours_outlive_their_minutes).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from database.rollup import DAY, floor, job_lock, roll_up, tell
from flows.domain.rollups import BY_GRAIN, Grain
from flows.domain.tables import DEAD_LETTERS, Table

# a dashboard that reads an old chunk at this moment makes us wait, and everybody else behind us:
# rather next time
LOCK_TIMEOUT = "5s"


@dataclass(frozen=True)
class RetentionPolicy:
    """How many days of rows to keep. 0: all."""

    by_grain: Mapping[Grain, int]
    dead_letters: int

    def tables(self) -> list[tuple[Table, int]]:
        """The tables of which anything is to be forgotten, finest first."""
        grains = [
            (table, days) for grain, days in self.by_grain.items() for table in BY_GRAIN[grain]
        ]
        return [
            (table, days) for table, days in [*grains, (DEAD_LETTERS, self.dead_letters)] if days
        ]


@dataclass(frozen=True)
class Dropped:
    """What went from a table: everything before a midnight (UTC)."""

    table: str
    before: datetime
    what: str


def forget(db: psycopg.Connection, keep: RetentionPolicy) -> list[Dropped]:
    """Forget what is older than the days to keep. Time: the database's clock. The connection is in
    autocommit.
    """
    began = time.monotonic()
    roll_up(db)
    with job_lock(db):
        found = []
        for table, days in keep.tables():
            before = floor(today(db), DAY) - timedelta(days=days)
            found.append(Dropped(table.name, before, forget_table(db, table, before)))
        tell(
            db,
            "retention",
            time.monotonic() - began,
            "; ".join(f"{f.table}: {f.what}" for f in found if f.what),
        )
    return [one for one in found if one.what]


def today(db: psycopg.Connection) -> datetime:
    row = db.execute("SELECT now()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def forget_table(db: psycopg.Connection, table: Table, before: datetime) -> str:
    """Seal and forget. Gives what went in words, or nothing."""
    with db.transaction():
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        db.execute(
            "INSERT INTO ops.sealed AS known (table_name, before) VALUES (%s, %s) ON CONFLICT"
            " (table_name) DO UPDATE SET before = greatest(known.before, excluded.before)",
            (table.name, before),
        )
        row = db.execute("SELECT ops.forget(%s, %s)", (table.name, before)).fetchone()
    return str(row[0]) if row is not None and row[0] else ""
