"""Kills, outages and strange records in mid-run: afterwards every number is right."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from flows.registry import BY_NAME
from tests.support.stack import FLOWS, Stack, wait_until
from tests.support.traffic import good_events, mixed
from tests.support.web_events import CLEAN, V2

SHORT = {
    "SHOPSTREAM_BATCH_RECORDS": "300"
}  # many polls and epochs, so that a kill falls between any two


@contextmanager
def arriving(stack: Stack, count: int, seed: int, seconds: float) -> Iterator[threading.Thread]:
    """Records keep coming, in portions, while the block runs; its end waits for the last."""
    records, portions = mixed(count, seed), 20
    trouble: list[BaseException] = []

    def produce() -> None:
        try:
            for i in range(portions):
                stack.produce(records[i::portions])
                time.sleep(seconds / portions)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    assert trouble == []


def progress(stack: Stack, flow: str) -> int:
    return sum(max(place.offset, 0) for place in stack.committed(flow).values())


def has_worked(stack: Stack, flow: str, since: int) -> bool:
    return progress(stack, flow) > since or stack.is_drained(flow)


@pytest.mark.services
def test_kills_in_mid_run_lose_and_double_nothing(stack: Stack) -> None:
    chance = random.Random(11)
    running = stack.start_all(**SHORT)
    with arriving(stack, 20_000, seed=11, seconds=10):
        for flow in [*FLOWS, *FLOWS]:
            before = progress(stack, flow)
            wait_until(f"{flow} to work", partial(has_worked, stack, flow, before), 30)
            time.sleep(chance.random() * 0.3)  # anywhere between two commits
            stack.kill(running[flow])
            running[flow] = stack.start(flow, **SHORT)
    stack.drain()
    stack.verify()
    stack.recount()
    assert [process.poll() for process in running.values()] == [None] * 4


@pytest.mark.services
def test_all_flows_killed_at_once_go_on_as_if_nothing_was(stack: Stack) -> None:
    stack.produce(mixed(8_000, seed=12))
    for _ in range(2):
        running = stack.start_all(**SHORT)
        reached = progress(stack, "clean")
        wait_until("clean to work", partial(has_worked, stack, "clean", reached), 30)
        for process in running.values():
            stack.kill(process)
    stack.start_all()
    stack.drain()
    stack.verify()


def test_a_killed_clean_repeats_records_and_metrics_counts_them_once(stack: Stack) -> None:
    stack.produce([(e["visitor_id"].encode(), V2.frame(e)) for e in good_events(3_000)])
    never = {"SHOPSTREAM_EPOCH_SECONDS": "60"}
    clean = stack.start("clean", **never)
    wait_until("clean to write", lambda: sum(stack.ends("clean.web").values()) == 3_000)
    stack.kill(clean)
    stack.start_all()
    stack.drain()
    repeated = Counter(
        (e["source_partition"], e["source_offset"])
        for r in stack.read("clean.web")
        for e in [CLEAN.read(r.value or b"")]
    )
    assert set(repeated.values()) == {2}, "nothing was committed, so all was said twice"
    stack.verify()


def test_a_database_outage_loses_nothing(stack: Stack) -> None:
    running = stack.start_all(**SHORT)
    stack.wait_until_reading()
    cut = 0
    with (
        arriving(stack, 5_000, seed=13, seconds=4) as producing,
        psycopg.connect(stack.services.database_url, autocommit=True) as admin,
    ):
        while producing.is_alive():
            rows = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND"
                " application_name = 'shopstream'",
                (stack.prefix,),
            ).fetchall()
            cut += len(rows)
            time.sleep(0.15)
    assert cut > 10
    stack.drain()
    assert [process.poll() for process in running.values()] == [None] * 4
    stack.verify()
    stack.recount()


def test_cleaning_goes_on_while_the_database_is_away(stack: Stack) -> None:
    stack.start("clean", DATABASE_URL="postgresql://127.0.0.1:1/nothing")
    stack.produce(mixed(1_000, seed=14))
    stack.drain("clean")
    for flow in FLOWS[1:]:
        stack.start(flow)
    stack.drain()
    stack.verify()


def test_plain_bytewax_run_runs_a_flow(stack: Stack) -> None:
    stack.produce(mixed(1_000, seed=15))
    command = [sys.executable, "-m", "bytewax.run"]
    started = [stack.run(f, [*command, BY_NAME[f].module]) for f in FLOWS]
    # epochs are 10 s here: rows are there long before the first commit
    accepted = "SELECT coalesce(sum(records), 0)::int FROM quality.outcomes_1m"
    wait_until(
        "all outcomes",
        lambda: stack.query(accepted) == [(sum(stack.ends("raw.web").values()),)],
        30,
    )
    codes = [stack.terminate(process)[0] for process in started]
    assert codes == [0] * 4
    assert all(stack.is_drained(flow) for flow in FLOWS)
    stack.verify()
