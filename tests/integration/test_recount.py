"""The second opinion agrees with a right pipeline, and with no other one."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from flows.runtime.paths import ROOT
from shopstream.verify import second_opinion as recount
from tests.support.stack import Stack
from tests.support.traffic import mixed

ALLOWED = {"confluent_kafka", "fastavro", "psycopg"}
# one stored number each, in a row that there is
CHANGES = {
    "gold.traffic_1m": "UPDATE gold.traffic_1m_by_partition SET visitors = visitors + 1",
    "gold.orders_1m": "UPDATE gold.orders_1m_by_partition SET tax_minor = tax_minor + 1",
    "gold.sales_1m": "UPDATE gold.sales_1m_by_partition SET refund_units = refund_units + 1",
    "gold.products_1m": "UPDATE gold.products_1m_by_partition SET checkouts = checkouts + 1",
    "gold.searches_1m": "UPDATE gold.searches_1m_by_partition SET searches = searches + 1",
    "quality.outcomes_1m": "UPDATE quality.outcomes_1m_by_partition SET records = records + 1",
}
SYNTHETIC = """
INSERT INTO gold.searches_1m_by_partition (window_start, partition, shop_id, query, events,
  searches, zero_results)
VALUES ('2026-03-01', -1, 'main', 'shoes', 5, 5, 0)
"""


def changed_row(statement: str) -> str:
    """The statement for the first row of its table alone."""
    table = statement.split()[1]
    return f"{statement} WHERE ctid = (SELECT min(ctid) FROM {table})"


def test_one_changed_number_is_seen_and_synthetic_rows_are_not(stack: Stack) -> None:
    stack.produce(mixed(800, seed=9))
    stack.start_all()
    stack.drain()
    stack.execute(SYNTHETIC)
    report = stack.second_opinion()
    assert not report.differences, str(report)
    assert report.outcomes.total() == sum(stack.ends("raw.web").values())
    assert {"accepted", "duplicate", "LATE", "INVALID"} <= report.outcomes.keys()

    changed: dict[str, int] = {}
    for view, statement in CHANGES.items():
        stack.execute(changed_row(statement))
        changed[view] = 1
        differences = stack.second_opinion().differences
        assert {kind: len(cases) for kind, cases in differences.items()} == changed
    stack.execute("DELETE FROM gold.sales_1m_by_partition")
    assert len(stack.second_opinion().differences["gold.sales_1m"]) > 1


def test_a_record_without_an_outcome_is_seen(stack: Stack) -> None:
    stack.produce(mixed(200, seed=10))
    flows = stack.start_all()
    stack.drain()
    stack.terminate(flows["clean"])
    stack.produce([(b"k", b"nobody has read this")])
    assert list(stack.second_opinion().differences) == ["no outcome"]


def run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shopstream.verify.second_opinion", *options],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_says_when_it_cannot_tell(stack: Stack) -> None:
    nothing = run({})
    assert nothing.returncode == 2
    assert nothing.stderr == "recount: KAFKA_BOOTSTRAP_SERVERS is not set\n"
    names = [f"--{name}={stack.topic(topic)}" for name, topic in vars(recount.Topics()).items()]
    empty = run(stack.environment, *names)
    assert empty.returncode == 2
    assert empty.stderr == f"recount: topic {stack.topic('raw.web')} is empty\n"


def test_the_recount_shares_no_code() -> None:
    tree = ast.parse((ROOT / "shopstream" / "verify" / "second_opinion.py").read_text())
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert modules <= ALLOWED | sys.stdlib_module_names


@pytest.mark.parametrize("value", [None, b"", b"\xc3\x01", b"\x00\x00\x00\x00\x02", b"junk" * 9])
def test_what_is_no_event_reads_as_none(value: bytes | None) -> None:
    assert recount.Schemas().read(value) is None
