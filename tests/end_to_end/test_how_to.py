"""The pages of docs/how-to that add something, carried out in a copy of the checkout, and run."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from tests.support.how_to import Copy
from tests.support.stack import Stack, wait_until
from tests.support.web_events import NOON, V2, event, header, item, uuid

pytestmark = pytest.mark.services


@pytest.fixture
def copy(stack: Stack, tmp_path: Path) -> Copy:
    folder = tmp_path / "copy"
    folder.mkdir()
    return Copy.make(folder, stack.environment)


def purchase(number: int, price: int, **changes: Any) -> tuple[bytes, bytes]:
    items = [item(product_id="p-1", quantity=2, unit_price_minor=price)]
    order = event("PURCHASE", event_id=uuid(number), order_id=f"o-{number}", items=items)
    return b"v-1", V2.frame(order | {"discount_minor": None} | changes)


def test_a_family_is_added_by_these_steps(stack: Stack, copy: Copy, tmp_path: Path) -> None:
    topics = {stage: f"{stack.prefix}.{stage}.door" for stage in ("raw", "clean")}
    copy.environment = dict(stack.environment) | {
        "SHOPSTREAM_TOPIC_RAW_DOOR": topics["raw"],
        "SHOPSTREAM_TOPIC_CLEAN_DOOR": topics["clean"],
    }
    copy.carry_out("add-a-family.md")
    schema = json.loads((copy.folder / "avro" / "door_event.avsc").read_text())

    def door(number: int, people: int, door_id: str = "north") -> bytes:
        out = io.BytesIO()
        arrival = {
            "event_id": uuid(number),
            "event_time": datetime.fromtimestamp(NOON / 1000, UTC),
            "door_id": door_id,
            "people": people,
        }
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), arrival)
        return header(schema) + out.getvalue()

    good = [door(i, i + 1) for i in range(3)]
    records = [*good, good[0], door(9, -1), door(10, 4, ""), b"junk"]
    stack.produce([(b"north", value) for value in records], "raw.door", 0)
    flows = ("clean_door", "metrics_door", "quality", "deadletters")
    for flow in flows:
        copy.start(stack, flow)
    expected: list[tuple[str, str | None, list[str]]] = [
        *[("accepted", None, [])] * 3,
        ("duplicate", None, []),
        ("rejected", "INVALID", ["PEOPLE_NEGATIVE"]),
        ("rejected", "INVALID", ["DOOR_ID_MISSING"]),
        ("rejected", "BAD_MAGIC", []),
    ]
    wait_until(
        "every record to have its outcome",
        lambda: (
            stack.query("SELECT coalesce(sum(records), 0)::int FROM quality.outcomes_1m")
            == [(len(records),)]
            and stack.query("SELECT count(*)::int FROM quality.dead_letters") == [(3,)]
            and stack.query("SELECT door_id, people FROM gold.arrivals_1m") == [("north", 6)]
        ),
    )
    ledger = tmp_path / "ledger"
    (ledger / "gold").mkdir(parents=True)
    pl.DataFrame(
        {
            "partition": [0] * len(records),
            "offset": range(len(records)),
            "payload_hash": [hashlib.blake2b(v, digest_size=16).digest() for v in records],
            "expected_outcome": [outcome for outcome, _, _ in expected],
            "expected_code": [code for _, code, _ in expected],
            "expected_rules": [rules for _, _, rules in expected],
        },
        schema_overrides={"expected_rules": pl.List(pl.String)},
    ).write_parquet(ledger / "events.parquet")
    pl.DataFrame(
        {
            "window_start": [datetime.fromtimestamp(NOON / 1000, UTC)],
            "door_id": ["north"],
            "people": [6],
        }
    ).write_parquet(ledger / "gold" / "arrivals_1m.parquet")
    verify = f".venv/bin/python -m shopstream verify --family door --roll-up --ledger {ledger}"
    copy.sh(verify)
    assert "verified: 7 events, 1 rows, 0 differences" in copy.outputs[-1]
    copy.sh(f"if {verify.replace('door', 'web', 1)}; then exit 1; fi")  # it can fail


def test_a_flow_is_added_by_these_steps(stack: Stack, copy: Copy) -> None:
    copy.carry_out("add-a-flow.md")
    stack.produce([purchase(1, 49_999), purchase(2, 50_000), purchase(3, 70_000)], partition=1)
    for flow in ("clean", "large_orders"):
        copy.start(stack, flow)
    query = (
        "SELECT partition, source_offset, order_id, total_minor FROM gold.large_orders ORDER BY 2"
    )
    large = [(1, 1, "o-2", 100_000), (1, 2, "o-3", 140_000)]
    wait_until("large orders in the table", lambda: stack.query(query) == large)


def test_a_metric_is_added_by_these_steps(stack: Stack, copy: Copy) -> None:
    copy.carry_out("add-a-metric.md")
    orders = [purchase(1, 100, channel="EMAIL"), purchase(2, 100, channel="DIRECT")]
    stack.produce(orders, partition=0)
    for flow in ("clean", "metrics"):
        copy.start(stack, flow)
    query = "SELECT sum(orders)::int, sum(email_orders)::int FROM gold.orders_1m"
    wait_until("orders by e-mail", lambda: stack.query(query) == [(2, 1)])
    copy.sh("cat docs/metrics.md grafana/provisioning/dashboards/shopstream-products.json")
    assert copy.outputs[-1].count("Orders by e-mail") >= 2


def test_a_rule_is_added_by_these_steps(stack: Stack, copy: Copy) -> None:
    copy.carry_out("add-a-rule.md")
    searches = [event("SEARCH", event_id=uuid(n), search_results=n) for n in (1, 2)]
    searches[1]["search_results"] = None
    stack.produce([(b"v", V2.frame(search)) for search in searches], partition=0)
    for flow in ("clean", "deadletters"):
        copy.start(stack, flow)
    query = "SELECT source_offset, violations->0->>'rule' FROM quality.dead_letters"
    refused = [(1, "SEARCH_RESULTS_MISSING")]
    wait_until("the refused search", lambda: stack.query(query) == refused)
    copy.sh("cat docs/rules.md")
    assert "SEARCH_RESULTS_MISSING" in copy.outputs[-1]
