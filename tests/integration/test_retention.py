"""What is old goes, hours and days stay, and nothing is counted anew from what is left."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from database.retention import RetentionPolicy, drop_old_rows
from database.rollup import DAY, floor, roll_up
from flows.domain.rollups import BY_GRAIN, GOLD_ROLLUPS, QUALITY_ROLLUPS, Grain
from flows.domain.tables import DEAD_LETTERS
from flows.runtime.paths import ROOT
from shopstream.doctor.database import examine_rollups
from tests.support.databases import Database
from tests.support.rollup_rows import (
    MIDNIGHT,
    MINUTES,
    assert_exact,
    prepare,
    row_of,
    stored,
    write,
)

WEEK = RetentionPolicy({Grain.MINUTE: 7, Grain.HOUR: 0, Grain.DAY: 0}, 0)
HOURS_AND_DAYS = (*GOLD_ROLLUPS.values(), *QUALITY_ROLLUPS)


def minute_of(days_ago: int, minute: int) -> int:
    """A minute of a day before today, counted as `row_of` counts."""
    return (floor(datetime.now(UTC), DAY) - timedelta(days=days_ago) - MIDNIGHT) // timedelta(
        minutes=1
    ) + minute


def fill(db: psycopg.Connection[Any], days_ago: int, events: int, partition: int = 0) -> None:
    with db.transaction():
        for table in MINUTES:
            cells = [
                row_of(table, minute_of(days_ago, m), partition, "a", events)
                for m in (0, 59, 60, 1439)
            ]
            write(db, table, cells)


def days_with_rows(db: psycopg.Connection[Any], tables: Any) -> set[int]:
    """How many days ago there are rows."""
    today = floor(datetime.now(UTC), DAY)
    return {
        (today - floor(start, DAY)).days
        for table in tables
        for (start,) in db.execute(f"SELECT DISTINCT window_start FROM {table.name}")
    }


def rolled_up(db: psycopg.Connection[Any]) -> list[Any]:
    return [stored(db, rollup) for rollup in HOURS_AND_DAYS]


def test_hours_outlive_their_minutes(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        for days_ago in (10, 8, 7, 1):
            fill(db, days_ago, 3)
        gone = drop_old_rows(db, WEEK)  # nobody has rolled up before: it does so itself
        assert {dropped.table for dropped in gone} == {t.name for t in MINUTES}
        assert days_with_rows(db, MINUTES) == {7, 1}
        for grain in (Grain.HOUR, Grain.DAY):
            assert days_with_rows(db, BY_GRAIN[grain]) == {10, 8, 7, 1}
        assert drop_old_rows(db, WEEK) == []


def test_a_change_of_a_forgotten_minute_is_told_and_changes_no_hour(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        for days_ago in (10, 1):
            fill(db, days_ago, 3)
        drop_old_rows(db, WEEK)
        before = rolled_up(db)
        fill(db, 10, 1, partition=1)  # too late: its hours cannot be summed any more
        run = roll_up(db)
        assert (run.hours, run.rows, run.refused) == (0, 0, 3 * len(MINUTES))
        assert rolled_up(db) == before
        sealed = db.execute(
            "SELECT source, window_start FROM ops.sealed_changes ORDER BY 1, 2"
        ).fetchall()
        hours = [MIDNIGHT + timedelta(minutes=minute_of(10, m)) for m in (0, 60, 1380)]
        assert sealed == sorted((t.name, hour) for t in MINUTES for hour in hours)
        fill(db, 1, 5, partition=1)  # what is not sealed goes on as before
        roll_up(db)
        drop_old_rows(db, WEEK)
        assert days_with_rows(db, MINUTES) == {1}
        assert rolled_up(db) != before


def test_a_past_that_is_imported_behind_the_retention_is_in_hours_and_days(
    database: Database,
) -> None:
    """Only hours that were dropped are sealed; one that never was is summed up, then dropped."""
    with database.connect() as db:
        prepare(db)
        fill(db, 10, 3)
        drop_old_rows(db, WEEK)
        fill(db, 30, 5)
        drop_old_rows(db, WEEK)
        assert days_with_rows(db, MINUTES) == set()
        for grain in (Grain.HOUR, Grain.DAY):
            assert days_with_rows(db, BY_GRAIN[grain]) == {30, 10}


def test_each_grain_is_kept_as_long_as_is_set(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        # hours lie in chunks of 30 days, days in chunks of 360: only whole ones go
        for days_ago in (1000, 500, 70, 5, 0):
            fill(db, days_ago, 2)
        drop_old_rows(db, RetentionPolicy({Grain.MINUTE: 1, Grain.HOUR: 30, Grain.DAY: 600}, 0))
        assert days_with_rows(db, MINUTES) == {0}
        assert days_with_rows(db, BY_GRAIN[Grain.HOUR]) == {5, 0}
        assert days_with_rows(db, BY_GRAIN[Grain.DAY]) == {500, 70, 5, 0}


def test_kept_for_ever_is_kept(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        fill(db, 5000, 2)
        assert drop_old_rows(db, RetentionPolicy(dict.fromkeys(Grain, 0), 0)) == []
        assert assert_exact(db) > 0


def letter(db: psycopg.Connection[Any], offset: int, days_ago: float) -> None:
    columns = {
        "source_timestamp": datetime.now(UTC) - timedelta(days=days_ago),
        "source_offset": offset,
    }
    rest = {
        "source_topic": "raw.web",
        "source_partition": 0,
        "flow": "clean",
        "code": "INVALID",
        "violations": "[]",
        "attempt": 1,
    }
    row = columns | rest
    assert set(row) <= set(DEAD_LETTERS.columns)
    db.execute(
        f"INSERT INTO quality.dead_letters ({', '.join(row)})"
        f" VALUES ({', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


def test_dead_letters_are_kept_by_their_kafka_time(database: Database) -> None:
    with database.connect() as db:
        for offset, days_ago in enumerate((40.0, 31.5, 29.0, 0.0)):
            letter(db, offset, days_ago)
        (gone,) = drop_old_rows(db, RetentionPolicy(dict.fromkeys(Grain, 0), 30))
        assert (gone.table, gone.amount) == (DEAD_LETTERS.name, "2 rows")
        assert db.execute(
            "SELECT source_offset FROM quality.dead_letters ORDER BY 1"
        ).fetchall() == [(2,), (3,)]


def become(db: psycopg.Connection[Any], role: str) -> None:
    """Go on as a role of ours."""
    try:
        if db.execute("SELECT pg_has_role(%s, 'set')", (role,)).fetchone() != (True,):
            db.execute(f"GRANT {role} TO CURRENT_USER")
        db.execute(f"SET ROLE {role}")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        pytest.skip("the owner of this server may not make or grant roles")


def test_the_writer_may_do_all_of_this(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        fill(db, 10, 3)
        become(db, "shopstream_writer")
        assert len(drop_old_rows(db, WEEK)) == len(MINUTES)
        with pytest.raises(
            psycopg.errors.RaiseException, match="is no table that anything is forgotten of"
        ):
            db.execute("SELECT ops.forget('ops.annotations', now())")


def test_the_reader_may_do_nothing_of_this(database: Database) -> None:
    with database.connect() as db:
        become(db, "shopstream_reader")
        for statement in (
            "SELECT ops.forget('gold.orders_1m_by_partition', now())",
            "DELETE FROM ops.changes",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)
        db.execute("SELECT count(*) FROM gold.orders_1h")


def test_the_command_says_what_went(database: Database) -> None:
    with database.connect() as db:
        prepare(db)
        fill(db, 3, 2)
    command = [sys.executable, "-m", "shopstream", "retention"]
    variables = {"DATABASE_URL": database.url, "SHOPSTREAM_RETENTION_1M_DAYS": "2"}
    result = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(MINUTES)
    assert "gold.orders_1m_by_partition: " in result.stdout


def test_the_doctor_sees_that_nobody_rolls_up_and_what_came_too_late(database: Database) -> None:
    with database.connect() as db:
        assert [f.todo for f in examine_rollups(db)] == [""], "nothing has changed yet"
        prepare(db)
        fill(db, 10, 3)
        (behind,) = examine_rollups(db)
        assert behind.found == "never rolled up, 3 changed hours wait"
        assert "rollup --every" in behind.todo
        drop_old_rows(db, WEEK)
        assert [f.todo for f in examine_rollups(db)] == [""]
        fill(db, 10, 1, partition=1)
        roll_up(db)
        _, late = examine_rollups(db)
        assert late.found.startswith(f"{3 * len(MINUTES)} changed after")
