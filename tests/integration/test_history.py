"""Synthetic history: loaded whole, told apart from what flows counted, and taken away without a
trace."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from database.rollup import mark_all_hours, roll_up
from flows.domain.rollups import BY_GRAIN, Grain
from flows.domain.tables import Table
from flows.runtime.paths import ROOT
from flows.runtime.settings import Settings
from generators.shoppers.history import History
from shopstream.backfill.load import load
from shopstream.backfill.removal import remove
from tests.support.databases import Database
from tests.support.rollup_rows import MINUTES, assert_exact, prepare, write
from tests.support.stack import wait_until

ALL = tuple(Grain)
TABLES = tuple(table for tables in BY_GRAIN.values() for table in tables)


@pytest.fixture
def settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Settings()


@pytest.fixture
def past() -> History:
    return History.until(datetime.now(UTC), days=4, rate=0.05, seed=2)


def counts(database: Database, where: str = "partition = -1") -> dict[str, int]:
    return {
        t.name: database.query(f"SELECT count(*) FROM {t.name} WHERE {where}")[0][0] for t in TABLES
    }


def real_row(database: Database, table: Table, at: datetime, name: str) -> None:
    """A row that a flow would write."""
    row: list[Any] = [
        at if c == "window_start" else 0 if c == "partition" else name if kind == "text" else 1
        for c, kind in table.columns.items()
    ]
    with database.connect() as db:
        prepare(db)
        with db.transaction():
            write(db, table, [tuple(row)])


def test_what_is_said_is_what_is_there_and_hours_and_days_are_its_sums(
    database: Database, settings: Settings, past: History
) -> None:
    loaded = load(settings, past, ALL)
    assert counts(database) == loaded.rows
    assert min(loaded.rows.values()) > 0
    ((first, last),) = database.query(
        "SELECT min(window_start), max(window_start) FROM gold.traffic_1m"
    )
    assert past.start <= first < last < past.end
    with database.connect() as db:
        assert assert_exact(db) == sum(n for name, n in loaded.rows.items() if "_1m_" not in name)
        for table in MINUTES:
            mark_all_hours(db, table.name)
        assert roll_up(db).rows == 0, "the job would count the same"


def test_a_session_can_leave_it_out(database: Database, settings: Settings, past: History) -> None:
    load(settings, past, ALL)
    now = past.end - timedelta(minutes=1)
    for table in MINUTES:
        real_row(database, table, now, "real")
    with database.connect() as db:
        roll_up(db)
        views = [
            f"{schema}_{grain}"
            for schema in ("gold.orders", "gold.traffic", "quality.outcomes", "quality.rules")
            for grain in Grain
        ]

        def shown() -> list[int]:
            return [db.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0] for view in views]

        both = shown()
        db.execute("SET shopstream.synthetic = off")
        assert shown() == [1] * len(views)
        db.execute("RESET shopstream.synthetic")
        assert shown() == both
        assert min(both) > 1


def test_it_goes_without_a_trace_and_real_rows_stay(
    database: Database, settings: Settings, past: History
) -> None:
    moments = [past.end - timedelta(minutes=1), past.start + timedelta(hours=30)]
    for moment in moments:
        for table in MINUTES:
            real_row(database, table, moment.replace(second=0), "real")
    with database.connect() as db:
        roll_up(db)
        before = counts(database, "true")
        loaded = load(settings, past, ALL)
        titles = database.query(
            "SELECT title, time, time_end FROM ops.annotations WHERE kind = 'synthetic'"
        )
        assert titles == [("synthetic history", past.start, past.end)]
        assert remove(db) == loaded.total
        assert counts(database, "true") == before
        assert database.query("SELECT count(*) FROM ops.annotations WHERE kind <> 'schema'") == [
            (0,)
        ]
        assert assert_exact(db) > 0
        assert remove(db) == 0


def history(database: Database, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "shopstream", "history", *words],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"DATABASE_URL": database.url},
    )


def test_what_a_killed_load_left_is_replaced_by_the_next(database: Database) -> None:
    with history(database, "--days", "40", "--rate", "0.5") as killed:
        wait_until(
            "some rows",
            lambda: database.query("SELECT count(*) > 0 FROM gold.orders_1d_rows") == [(True,)],
        )
        killed.kill()
    left = sum(counts(database).values())
    assert left > 0
    with history(database, "--days", "2", "--rate", "0.05", "--grains", "1h,1d") as again:
        output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert output.startswith(f"removed {left:,} synthetic rows")
    rows = counts(database)
    assert {name for name, n in rows.items() if n} == {
        t.name for grain in ("1h", "1d") for t in BY_GRAIN[Grain(grain)]
    }
    with history(database, "--remove") as removed:
        removed.communicate(timeout=120)
    assert set(counts(database).values()) == {0}


def test_hours_without_minutes_survive_the_job(
    database: Database, settings: Settings, past: History
) -> None:
    """A demo has hours and days only; flows then count in the same hour."""
    load(settings, past, (Grain.HOUR, Grain.DAY))
    before = counts(database)
    for table in MINUTES:
        real_row(database, table, past.end - timedelta(minutes=1), "real")
    with database.connect() as db:
        roll_up(db)
    assert counts(database) == before
    assert set(counts(database, "partition = 0").values()) == {1}
