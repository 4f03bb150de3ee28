"""`shopstream verify` sees each mistake that was ever found to pass it, and says which."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from database.connection import connect
from flows.runtime.paths import ROOT
from shopstream.demo.dev_services import Services, drop_database
from shopstream.verify import compare
from shopstream.verify.ledger import Ledger
from shopstream.verify.topics import Followed
from tests.support.databases import copy_of
from tests.support.stack import FLOWS, Stack

GENERATE = (sys.executable, "-m", "generators", "run")
MUTANTS = {
    "checks counted twice": (
        "UPDATE quality.rules_1m_by_partition SET checked = 2 * checked"
        " WHERE rule = 'EVENT_ID_MISSING'",
        "checks by rule: EVENT_ID_MISSING: expected",
    ),
    "conditional checks counted twice": (
        "UPDATE quality.rules_1m_by_partition SET checked = 2 * checked"
        " WHERE rule = 'ORDER_ID_MISSING'",
        "checks by rule: ORDER_ID_MISSING: expected",
    ),
    "outcomes an hour off": (
        "UPDATE quality.outcomes_1m_by_partition SET window_start = window_start + interval '1 h'",
        "tallies by minute of the Kafka timestamp: ",
    ),
    "hours as the highest minute": (
        "UPDATE gold.traffic_1h_rows AS hour SET events = (SELECT max(events) FROM gold.traffic_1m"
        " WHERE (shop_id, event_type, channel, device, country) = (hour.shop_id, hour.event_type,"
        " hour.channel, hour.device, hour.country))",
        "gold.traffic_1h: events at",
    ),
    "progress too far": (
        "UPDATE ops.progress SET source_offset = source_offset + 1000",
        "progress and events by minute: 0: expected",
    ),
    "violations without a field": (
        'UPDATE quality.dead_letters SET violations = (SELECT jsonb_agg(v || \'{"field": ""}\')'
        " FROM jsonb_array_elements(violations) AS v) WHERE violations <> '[]'",
        "dead letters: fields and values: field of",
    ),
    "violations without a value": (
        "UPDATE quality.dead_letters SET violations = (SELECT jsonb_agg(v || '{\"value\": null}')"
        " FROM jsonb_array_elements(violations) AS v) WHERE violations <> '[]'",
        "dead letters: fields and values: value of",
    ),
    "letters without a key": (
        "UPDATE quality.dead_letters SET source_key = NULL",
        "dead letters: source: key of",
    ),
    "letters at another time": (
        "UPDATE quality.dead_letters SET source_timestamp = source_timestamp + interval '1 s'",
        "dead letters: source: timestamp of",
    ),
    "letters without a fingerprint": (
        "UPDATE quality.dead_letters SET schema_fingerprint = NULL",
        "dead letters: source: fingerprint of",
    ),
    "a loss that gold does not show": (
        "DELETE FROM ops.counted_1m WHERE partition = 1",
        "residues: gold_residue of partition 1: expected 0",
    ),
    "a change that no job has seen": (
        "INSERT INTO ops.changes (source, hour) VALUES ('gold.traffic_1m_by_partition', now())",
        "hours and days are up to date: hours that wait for the roll-up job: expected 0, found 1",
    ),
}
"""What is wrong -> the statement that makes it so, and how the line about it begins."""


def generate(stack: Stack, *options: str) -> None:
    start = datetime.now(UTC) - timedelta(minutes=7)
    words = ["--rate", "5", "--duration", "300", "--speed", "0", "--visitors", "200", "--start"]
    words += [start.isoformat(timespec="seconds"), "--ledger", str(stack.folder / "ledger")]
    assert stack.exit_of(stack.run("generator", [*GENERATE, *words, *options]), 120) == 0


def verify(stack: Stack, *options: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "shopstream", "verify", *options],
        env={**stack.environment, **environment, "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def changed_copy(services: Services, stack: Stack, statement: str) -> Iterator[str]:
    """Copy the stack's database, and change it."""
    with connect(services.database_url, 5.0) as owner:
        url = copy_of(owner, services, stack.database_url)
        try:
            with connect(url, 5.0) as db:
                db.execute(statement.encode())
            yield url
        finally:
            drop_database(owner, url.rpartition("/")[2])


@pytest.mark.services
def test_each_mistake_in_the_tables_is_seen(stack: Stack) -> None:
    generate(stack)
    flows = stack.start_all()
    stack.drain()
    stack.terminate(*flows.values())
    ledger = ("--ledger", str(stack.folder / "ledger"))
    code, said = verify(stack, *ledger, "--roll-up")
    assert (code, said.splitlines()[-1].split()[0]) == (0, "verified:"), said
    settings = stack.settings()
    with Followed(settings) as topics:
        seen = topics.until_the_end()
    missed = []
    for name, (statement, line) in MUTANTS.items():
        with changed_copy(stack.services, stack, statement) as url:
            changed = settings.model_copy(update={"database_url": url})
            report = compare.verify(Ledger(stack.folder / "ledger"), changed, seen)
            told = [f"{check.name}: {d}" for check in report.checks for d in check.differences]
            if not any(words.startswith(line) for words in told):
                missed.append((name, told[:3]))
    assert missed == []
    statement, line = MUTANTS["progress too far"]
    with changed_copy(stack.services, stack, statement) as url:
        code, said = verify(stack, *ledger, DATABASE_URL=url)
    assert code == 1
    assert f"  {line}" in said
    assert said.splitlines()[-1].startswith("NOT verified: ")


@pytest.mark.services
@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        ("page", "clean events: fields, Kafka timestamp, number: fields of"),
        ("timestamp", "clean events: fields, Kafka timestamp, number: timestamp of"),
    ],
)
def test_a_mistake_of_clean_is_seen(stack: Stack, mistake: str, line: str) -> None:
    generate(stack, "--scenario", "normal")
    for flow in FLOWS:
        if flow != "clean":
            stack.start(flow)
    stack.run("clean", [sys.executable, "-m", "tests.support.mutants", mistake, "clean"])
    stack.drain()
    code, said = verify(stack, "--ledger", str(stack.folder / "ledger"), "--roll-up")
    assert code == 1, said
    assert f"  {line}" in said


def test_nothing_is_not_verified(stack: Stack, tmp_path: Path) -> None:
    generate(stack, "--events", "1")
    empty = tmp_path / "empty"
    done = subprocess.run(
        [*GENERATE, "--events", "0", "--speed", "0", "--ledger", str(empty)],
        env=stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 0:
        code, said = verify(stack, "--ledger", str(empty))
        assert code == 1
        assert "nothing was sent, so nothing is verified" in said
    code, said = verify(stack)
    assert code == 2
    assert "nothing is named to compare with" in said


@pytest.mark.services
def test_two_databases_are_compared_cell_by_cell(stack: Stack) -> None:
    generate(stack, "--scenario", "perf")
    flows = stack.start_all()
    stack.drain()
    stack.terminate(*flows.values())
    with changed_copy(stack.services, stack, "SELECT 1") as url:
        code, said = verify(stack, "--against", url)
        assert (code, said.splitlines()[-1].split()[0]) == (0, "verified:"), said
    for statement, line in (
        (
            "UPDATE gold.orders_1m_by_partition SET tax_minor = tax_minor + 1 WHERE ctid ="
            " (SELECT min(ctid) FROM gold.orders_1m_by_partition)",
            "gold.orders_1m: tax_minor at",
        ),
        (
            "DELETE FROM gold.traffic_1m_by_partition WHERE ctid ="
            " (SELECT min(ctid) FROM gold.traffic_1m_by_partition)",
            "gold.traffic_1m: events at",
        ),
    ):
        with changed_copy(stack.services, stack, statement) as url:
            for words, environment in (
                (("--against", url), {}),
                (("--against", stack.database_url), {"DATABASE_URL": url}),
            ):
                code, said = verify(stack, *words, **environment)
                assert code == 1, said
                assert f"  {line}" in said
