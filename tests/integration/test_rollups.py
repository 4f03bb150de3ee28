"""Hours and days equal a recount of the minutes, whatever is written, whenever it is committed,
wherever the job dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database import rollup
from database.log import ROLLING_UP
from database.migrate import migrate
from database.rollup import rebuild, roll_up
from flows.domain.rollups import ROLLUPS
from flows.runtime.paths import ROOT
from tests.support.databases import Database
from tests.support.rollup_rows import MIDNIGHT, MINUTES, assert_exact, prepare, row_of, write
from tests.support.stack import wait_until

WRITERS = 3
EDGES = (0, 59, 60, 61, 719, 1439, 1440, 1441, 2879)
writes = st.tuples(
    st.just("write"),
    st.integers(0, WRITERS - 1),
    st.lists(
        st.tuples(st.sampled_from(MINUTES), st.sampled_from(EDGES), st.sampled_from("ab")),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
ends = st.tuples(st.sampled_from(["commit", "rollback"]), st.integers(0, WRITERS - 1))
runs = st.tuples(st.just("run"))
deaths = st.tuples(st.just("die"), st.integers(0, 8))
histories = st.lists(st.one_of(writes, ends, runs, deaths), max_size=25)


class Death(BaseException):
    """The job is gone at this point."""


class Writers:
    """Flows with transactions that stay open as long as the history says. Each has a partition of
    its own."""

    def __init__(self, database: Database) -> None:
        self._connections = [database.connect() for _ in range(WRITERS)]
        for db in self._connections:
            prepare(db)
            db.autocommit = False
        self._guard = 0

    def write(self, writer: int, cells: list[Any], again: bool) -> None:
        """New numbers for cells; `again` repeats what is stored, as a replay does."""
        self._guard += 0 if again else 1
        for table in dict.fromkeys(table for table, _, _ in cells):
            rows = [
                row_of(table, minute, writer, name, self._guard)
                for t, minute, name in cells
                if t is table
            ]
            write(self._connections[writer], table, rows)

    def end(self, how: str, writer: int) -> None:
        getattr(self._connections[writer], how)()

    def close(self) -> None:
        for db in self._connections:
            db.commit()
            db.close()


def make_chunks(database: Database) -> None:
    """With TimescaleDB the first row of a chunk holds a lock until its transaction ends: no matter
    here."""
    with database.connect() as db:
        prepare(db)
        for table in MINUTES:
            with db.transaction():
                write(db, table, [row_of(table, minute, 0, "a", 1) for minute in EDGES])


def empty(db: psycopg.Connection[Any]) -> None:
    for table in (
        *(t.name for t in (*MINUTES, *(r.table for r in ROLLUPS))),
        "ops.changes",
        "ops.sealed_changes",
    ):
        db.execute(f"DELETE FROM {table}")


def die_after(steps: int) -> Any:
    """The job ends after so many of its steps: counting an hour or day, or taking marks away."""
    left = [steps]

    def counted(step: Any) -> Any:
        def run(*arguments: Any) -> Any:
            if not left[0]:
                raise Death
            left[0] -= 1
            return step(*arguments)

        return run

    return patch.multiple(
        rollup, recount=counted(rollup.recount), remove_marks=counted(rollup.remove_marks)
    )


def test_any_order_of_writes_commits_and_runs_gives_the_recount(database: Database) -> None:
    make_chunks(database)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(histories)
    def holds(history: list[Any]) -> None:
        with database.connect() as db:
            empty(db)
            writers = Writers(database)
            try:
                for what, *arguments in history:
                    if what == "write":
                        writers.write(*arguments)
                    elif what == "run":
                        roll_up(db)
                        assert_exact(db)
                    elif what == "die":
                        with database.connect() as dying, die_after(*arguments):
                            try:
                                roll_up(dying)
                            except Death:
                                dying.close()
                    else:
                        writers.end(what, *arguments)
            finally:
                writers.close()
            roll_up(db)
            assert_exact(db)
            assert db.execute("SELECT count(*) FROM ops.changes").fetchone() == (0,)
            assert (run := roll_up(db)).hours == run.rows == 0

    holds()


def test_what_lies_in_two_hours_and_two_days_is_summed_in_both(database: Database) -> None:
    """By hand: 3 and 4 events in one hour, 5 in the next, 6 on the next day; a correction makes 5
    into 8."""
    (orders,) = (t for t in MINUTES if t.name == "gold.orders_1m_by_partition")

    def shown(view: str) -> list[Any]:
        return database.query(
            f"SELECT window_start, orders, gross_minor FROM gold.{view} ORDER BY 1"
        )

    with database.connect() as db:
        prepare(db)
        with db.transaction():
            cells = [(0, 0, 3), (59, 1, 4), (60, 0, 5), (1440, 0, 6)]
            write(
                db, orders, [row_of(orders, minute, p, "a", events) for minute, p, events in cells]
            )
        roll_up(db)
        hours = [
            (MIDNIGHT, 7),
            (MIDNIGHT + timedelta(hours=1), 5),
            (MIDNIGHT + timedelta(days=1), 6),
        ]
        assert [(at, events) for at, events in events_of(db, "gold.orders_1h_rows")] == hours
        assert events_of(db, "gold.orders_1d_rows") == [
            (MIDNIGHT, 12),
            (MIDNIGHT + timedelta(days=1), 6),
        ]
        before = shown("orders_1d")
        with db.transaction():
            write(db, orders, [row_of(orders, 60, 0, "a", 8)])
        assert shown("orders_1d") == before, "nobody has rolled up yet"
        roll_up(db)
        assert events_of(db, "gold.orders_1d_rows") == [
            (MIDNIGHT, 15),
            (MIDNIGHT + timedelta(days=1), 6),
        ]
        for grain, width in (("1h", "hour"), ("1d", "day")):
            assert shown(f"orders_{grain}") == database.query(
                f"SELECT date_trunc('{width}', window_start), sum(orders)::bigint,"
                " sum(gross_minor)::bigint FROM gold.orders_1m GROUP BY 1 ORDER BY 1"
            )


def events_of(db: psycopg.Connection[Any], table: str) -> list[Any]:
    return db.execute(
        f"SELECT window_start, sum(events)::bigint FROM {table} GROUP BY 1 ORDER BY 1"
    ).fetchall()


DIES = """
import os, signal, sys
from database import rollup
from database.connection import connect
steps, step = int(sys.argv[2]), rollup.recount
def recount(*arguments):
    global steps
    if not steps:
        os.kill(os.getpid(), signal.SIGKILL)
    steps -= 1
    return step(*arguments)
rollup.recount = recount
rollup.roll_up(connect(sys.argv[1], 5.0))
"""


def test_a_job_killed_in_mid_run_leaves_the_rest_to_the_next(database: Database) -> None:
    """SIGKILL after each number of steps: two tables, two days of two hours each."""
    with database.connect() as db:
        prepare(db)
        deaths = 0
        for steps in range(9):
            with db.transaction():
                for table in MINUTES[:2]:
                    write(
                        db,
                        table,
                        [
                            row_of(table, minute, 0, "a", steps + 1)
                            for minute in (0, 60, 1440, 1500)
                        ],
                    )
            died = subprocess.run(
                [sys.executable, "-c", DIES, database.url, str(steps)], cwd=ROOT, timeout=60
            )
            deaths += died.returncode == -signal.SIGKILL
            assert (
                db.execute("SELECT count(*) FROM ops.changes").fetchone() != (0,)
                or died.returncode == 0
            )
            if steps % 2:  # at times two dead in a row
                roll_up(db)
                assert_exact(db)
        assert deaths == 8
        roll_up(db)
        assert assert_exact(db) == 2 * (4 + 2)


def test_flows_that_write_while_the_job_runs_and_is_killed_are_counted_in_full(
    database: Database,
) -> None:
    """Four threads correct rows at the speed of the database; jobs come and go by SIGKILL, one of
    them after a whole run."""
    make_chunks(database)
    enough = Event()

    def correct(partition: int) -> int:
        written = 0
        with database.connect() as db:
            prepare(db)
            while not enough.is_set():
                written += 1
                with db.transaction():
                    for i, table in enumerate(MINUTES):
                        minute = EDGES[(written + i) % len(EDGES)]
                        write(
                            db,
                            table,
                            [row_of(table, minute, partition, "ab"[written % 2], written)],
                        )
        return written

    def has_run() -> bool:
        return database.query("SELECT count(*) FROM ops.jobs WHERE job = 'rollup'") == [(1,)]

    with ThreadPoolExecutor(4) as flows:
        running = [flows.submit(correct, partition) for partition in range(4)]
        try:
            for seconds in (0.0, 0.1, 0.3, 0.7):
                with job_every("0.05", database) as job:
                    wait_for_start(job)
                    time.sleep(seconds)
                    job.kill()
            with job_every("0.05", database) as job:
                wait_until("a run", has_run)
                job.kill()
        finally:
            enough.set()
        assert min(flow.result() for flow in running) > 20
    with database.connect() as db:
        roll_up(db)
        assert assert_exact(db) > 50


def wait_for_start(job: subprocess.Popen[bytes]) -> None:
    """Until it says that it begins; how long its imports take is no matter of these tests."""
    assert job.stderr is not None
    for line in job.stderr:
        if ROLLING_UP.encode() in line:
            return
    raise AssertionError("the job has ended")


def job_every(seconds: str, database: Database) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shopstream", "rollup", "--every", seconds]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"DATABASE_URL": database.url}, stderr=subprocess.PIPE
    )


def test_a_job_that_is_asked_to_stop_rolls_up_once_more(database: Database) -> None:
    with database.connect() as db, job_every("600", database) as job:
        prepare(db)
        wait_until(
            "the first run",
            lambda: bool(database.query("SELECT FROM ops.jobs WHERE job = 'retention'")),
        )
        with db.transaction():
            write(db, MINUTES[0], [row_of(MINUTES[0], minute, 0, "a", 2) for minute in EDGES])
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 0
        assert assert_exact(db) > 0


def test_a_job_without_its_tables_says_so_and_is_not_started_again(database: Database) -> None:
    database.execute("DROP TABLE ops.changes")
    with job_every("0.05", database) as job:
        _, errors = job.communicate(timeout=60)
    assert job.returncode == 3
    assert b'"ops.changes" does not exist' in errors.splitlines()[-1]
    assert b"shopstream migrate" in errors.splitlines()[-1]


def test_minutes_that_were_there_before_their_hours_get_them(database: Database) -> None:
    """A database of an earlier version: migrating it makes the tables and marks what is to be
    counted."""
    with database.connect() as db:
        prepare(db)
        with db.transaction():
            write(db, MINUTES[1], [row_of(MINUTES[1], minute, 0, "a", 2) for minute in EDGES])
        db.execute("DELETE FROM ops.changes")
        for rollup in ROLLUPS:
            db.execute(f"DROP TABLE {rollup.table.name} CASCADE")
    migrate(database.url)
    with database.connect() as db:
        roll_up(db)
        assert assert_exact(db) > 0


def test_a_rebuild_mends_what_was_changed_by_hand(database: Database) -> None:
    hours = next(r.table.name for r in ROLLUPS)
    minutes = next(r.finer.name for r in ROLLUPS)
    with database.connect() as db:
        prepare(db)
        with db.transaction():
            write(db, MINUTES[0], [row_of(MINUTES[0], minute, 0, "a", 2) for minute in EDGES])
        roll_up(db)
        db.execute(
            f"DELETE FROM {minutes} WHERE window_start >= %s", (MIDNIGHT + timedelta(days=1),)
        )
        db.execute(f"UPDATE {hours} SET events = events + 1")
        roll_up(db)
        with pytest.raises(AssertionError):
            assert_exact(db)
        rebuild(db)
        assert assert_exact(db) > 0
