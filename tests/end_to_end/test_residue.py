"""The accounting residue over real flows: 0 when all has gone through, whoever was killed on the
way; else the alert fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import yaml

from grafana.alerts.files import ALERTING
from tests.support.stack import Stack, wait_until
from tests.support.traffic import mixed

RULES = yaml.safe_load((ALERTING / "rules-quality.yaml").read_text())["groups"][0]["rules"]
SQL = next(r for r in RULES if r["uid"] == "shopstream-residue")["data"][0]["model"]["rawSql"]


def residue(stack: Stack) -> float:
    """The number that the alert compares, asked when the newest minutes are old enough to have
    settled."""
    moment = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    ((_, value),) = stack.query(SQL.replace("$__timeTo()", f"'{moment}'"))
    return float(value)


def test_a_killed_clean_accounts_for_every_record(stack: Stack) -> None:
    stack.produce(mixed(3_000, seed=21))
    flows = stack.start_all()
    wait_until(
        "the first outcomes",
        lambda: stack.query("SELECT count(*) FROM quality.outcomes_1m") != [(0,)],
    )
    stack.kill(flows["clean"])
    stack.kill(flows["quality"])
    stack.produce(mixed(2_000, seed=22))
    stack.start("clean")
    stack.start("quality")
    stack.drain()
    assert residue(stack) == 0
    raw = sum(stack.ends("raw.web").values())
    counted = stack.query(
        "SELECT sum(consumed)::int, sum(counted)::int, count(*) FILTER (WHERE residue <> 0)::int"
        " FROM quality.residue_1m_by_partition"
    )
    assert counted == [(raw, raw, 0)]


def test_a_count_that_is_lost_shows(stack: Stack) -> None:
    stack.produce(mixed(1_000, seed=23))
    stack.start_all()
    stack.drain()
    assert residue(stack) == 0
    ((lost,),) = stack.query(
        "WITH lost AS (DELETE FROM quality.outcomes_1m_by_partition WHERE outcome = 'duplicate'"
        " RETURNING records) SELECT sum(records)::int FROM lost"
    )
    assert lost > 0
    assert residue(stack) == lost
