"""Flows, their roll-up job and a synthetic past, all at once: hours and days are those of what was
really sent."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime

import psycopg

from database.connection import connect
from database.rollup import roll_up
from flows.domain.rollups import Grain
from generators.shoppers.history import History
from shopstream.backfill.load import load
from tests.support.rollup_rows import assert_exact, each_rollup, stored
from tests.support.rollup_rows import recount as recounted
from tests.support.stack import FLOWS, Stack, wait_until
from tests.support.traffic import mixed

ROLLUP = [sys.executable, "-m", "shopstream", "rollup", "--every", "0.1"]


def assert_real_rows_exact(db: psycopg.Connection) -> int:
    """Every hour and day of what flows counted equals the recount; gives how many there are."""
    compared = 0
    for rollup, minutes in each_rollup():
        rows = {key: row for key, row in stored(db, rollup).items() if key[1] == 0}
        assert rows == recounted(db, rollup, minutes), rollup.table.name
        compared += len(rows)
    return compared


def test_a_run_over_a_synthetic_past_is_proved_as_if_there_were_none(stack: Stack) -> None:
    past = load(
        stack.settings(), History.until(datetime.now(UTC), 3, 0.1, 1), (Grain.HOUR, Grain.DAY)
    )
    flows = stack.start_all()
    job = stack.run("rollup", ROLLUP)
    stack.produce(mixed(1500, seed=21))
    stack.drain()
    assert stack.terminate(*flows.values()) == [0] * 4
    assert stack.terminate(job) == [0]
    stack.verify()
    stack.recount()
    with connect(stack.database_url, 5.0) as db:
        assert assert_real_rows_exact(db) > 100, (
            "the job has rolled up to the end, without being asked again"
        )
        ((synthetic,),) = db.execute(
            "SELECT count(*) FROM gold.traffic_1h WHERE NOT EXISTS (SELECT FROM gold.traffic_1m AS"
            " m WHERE date_trunc('hour', m.window_start, 'UTC') = traffic_1h.window_start)"
        ).fetchall()
        assert 0 < synthetic < past.total


def test_kills_of_flows_and_of_the_job_leave_exact_hours_and_days(stack: Stack) -> None:
    chance = random.Random(7)
    command = {flow: [sys.executable, "-m", "flows.runtime.launch", flow] for flow in FLOWS} | {
        "rollup": ROLLUP
    }
    running = {name: stack.run(name, words) for name, words in command.items()}
    for part in range(6):
        stack.produce(mixed(400, seed=30 + part))
        for name in ("metrics", "rollup", chance.choice(("quality", "clean"))):
            time.sleep(chance.uniform(0.1, 1.5))
            stack.kill(running[name])
            running[name] = stack.run(name, command[name])
    stack.drain()
    wait_until(
        "marks to be taken", lambda: stack.query("SELECT count(*) FROM ops.changes") == [(0,)]
    )
    with connect(stack.database_url, 5.0) as db:
        assert assert_exact(db) > 100
        assert roll_up(db).rows == 0
    stack.verify()
