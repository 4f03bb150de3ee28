"""The healthy stream and its faults: what a seed fixes, and what may not move it."""

from __future__ import annotations

import ast
import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flows.domain.errors
import generators
from generators.answer_key import verdicts
from generators.answer_key.verdicts import judge_rules
from generators.faults.catalogue import FAULTS, expand
from generators.faults.corrupt import CORRUPTIONS
from generators.faults.injector import Injector, Routing, TimeLimits
from generators.faults.rule_violations import RULES
from generators.records import Records
from generators.rng import draw, stream, uuid_text
from generators.scenarios import SCENARIOS
from generators.sending.encoding import Encoding, load_encoding, partitions_of
from generators.sending.schedule import SHAPES, EventClock, Schedule
from generators.shoppers.lanes import Shoppers
from generators.shoppers.pools import make_pools
from generators.shoppers.sessions import make_session_paths

START_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
LIMITS = TimeLimits(
    lateness_ms=60_000, tolerance_ms=10_000, patience_ms=30_000, latest_ms=START_MS + 120_000
)
POOLS, PATHS = cache(make_pools), cache(make_session_paths)


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    return load_encoding("raw.web")


@dataclass(frozen=True)
class Stream:
    """How a stream is made, with what most tests want."""

    seed: int = 3
    events: int = 3000
    size: int = 500
    shape: str = "constant"


def records(encoding: Encoding, faults: dict[str, float], **changes: Any) -> list[Records]:
    stream = Stream(**changes)
    pools = POOLS(stream.seed, 300, 40)
    shoppers = Shoppers(stream.seed, pools, PATHS(stream.seed), 128)
    schedule = Schedule.of(stream.shape, stream.events, 100.0)
    clock = EventClock(START_MS, 1.0)
    routing = Routing(pools.visitor_keys, partitions_of(pools.visitor_keys, 4))
    injector = Injector(stream.seed, expand(faults), LIMITS, encoding, routing)
    chunks = []
    for first in range(0, stream.events, stream.size):
        due = schedule.due_us(first, min(first + stream.size, stream.events))
        healthy = shoppers.emit(due, clock.event_ms(due), schedule.in_flash(due))
        chunks.append(injector.compose(healthy, answered=True))
    return chunks


def rows_of(chunks: list[Records]) -> list[tuple[Any, ...]]:
    """Key, value, partition, due time, event, fault and verdict of every record."""
    rows: list[tuple[Any, ...]] = []
    for chunk in chunks:
        assert chunk.answers is not None
        partition, due = chunk.partition.tolist(), chunk.due_us.tolist()
        columns = zip(chunk.keys, chunk.values, partition, due, chunk.answers.rows(), strict=True)
        rows += [(*sent, *answer) for *sent, answer in columns]
    return rows


EVERYTHING = {"repeats": 0.2, "times": 0.2, "writers": 0.1, "corrupt": 0.2, "rules": 0.5}


def test_the_same_seed_gives_the_same_bytes(encoding: Encoding) -> None:
    assert rows_of(records(encoding, EVERYTHING)) == rows_of(records(encoding, EVERYTHING))


def test_another_seed_gives_other_bytes(encoding: Encoding) -> None:
    one, other = rows_of(records(encoding, {}, seed=3)), rows_of(records(encoding, {}, seed=4))
    assert not {row[1] for row in one} & {row[1] for row in other}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_no_healthy_byte(encoding: Encoding, fault: str) -> None:
    clean = [row[:4] for row in rows_of(records(encoding, {}, events=600))]
    dirty = rows_of(records(encoding, {fault: 0.05}, events=600))
    assert [row[:4] for row in dirty if row[5] == ""] == clean
    assert any(row[5] == fault for row in dirty) or fault in (
        "duplicate_later",
        "duplicate_expired",
    )


def test_a_fault_changes_no_other_fault(encoding: Encoding) -> None:
    by_itself = [row for row in rows_of(records(encoding, {"late": 0.05})) if row[5] == "late"]
    among_others = [
        row for row in rows_of(records(encoding, EVERYTHING | {"late": 0.05})) if row[5] == "late"
    ]
    assert by_itself == among_others


def test_chunks_change_no_byte(encoding: Encoding) -> None:
    assert rows_of(records(encoding, EVERYTHING, size=3000)) == rows_of(
        records(encoding, EVERYTHING, size=37)
    )


def test_every_healthy_event_is_accepted_by_the_rules(encoding: Encoding) -> None:
    for row in rows_of(records(encoding, {}, shape="flash_sale")):
        assert judge_rules(row[4], row[4]["event_time"], 0) is None


def test_values_are_what_plain_fastavro_reads(encoding: Encoding) -> None:
    for _, value, _, _, event, _, _ in rows_of(records(encoding, {}, events=300)):
        read: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), encoding.parsed[2])
        assert {**read, "event_time": int(read["event_time"].timestamp() * 1000)} == event
        assert value[:10] == encoding.header()


def test_a_purchase_holds_what_its_checkout_held(encoding: Encoding) -> None:
    carts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    bought = 0
    for row in rows_of(records(encoding, {}, events=6000)):
        event = row[4]
        if event["event_type"] == "CHECKOUT":
            carts[event["visitor_id"], event["shop_id"]] = event["items"]
        if event["event_type"] == "PURCHASE":
            cart = carts.get((event["visitor_id"], event["shop_id"]))
            bought += cart == event["items"]
            assert all((event["order_id"], event["currency"], event["items"]))
            total = sum(item["quantity"] * item["unit_price_minor"] for item in event["items"])
            assert 0 <= (event["discount_minor"] or 0) <= total
    assert bought > 20


def test_shoppers_do_all_there_is_to_do_in_several_currencies(encoding: Encoding) -> None:
    events = [row[4] for row in rows_of(records(encoding, {}, events=6000))]
    kinds = Counter(event["event_type"] for event in events)
    assert set(kinds) == {
        "PAGE_VIEW",
        "SEARCH",
        "ADD_TO_CART",
        "REMOVE_FROM_CART",
        "CHECKOUT",
        "PURCHASE",
        "REFUND",
    }
    assert (
        kinds["PAGE_VIEW"]
        > kinds["ADD_TO_CART"]
        > kinds["CHECKOUT"]
        > kinds["PURCHASE"]
        > kinds["REFUND"]
    )
    assert {"GBP", "EUR", "USD", "JPY"} <= {event["currency"] for event in events}
    assert {
        event["search_results"] == 0 for event in events if event["event_type"] == "SEARCH"
    } == {True, False}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_the_only_one_broken(encoding: Encoding, rule: str) -> None:
    extras = [
        row for row in rows_of(records(encoding, {f"rule:{rule}": 0.1}, events=600)) if row[5]
    ]
    assert extras
    assert {row[6].rules for row in extras} == {(rule,)}
    assert {row[6].code for row in extras} == {"INVALID"}


def test_several_rules_are_broken_at_once(encoding: Encoding) -> None:
    extras = [
        row[6].rules
        for row in rows_of(records(encoding, {"rules_several": 0.1}, events=600))
        if row[5]
    ]
    assert extras
    assert all(len(rules) >= 2 for rules in extras)


@pytest.mark.parametrize("fault", CORRUPTIONS)
def test_corrupt_bytes_are_no_event_and_carry_their_code(encoding: Encoding, fault: str) -> None:
    extras = [row for row in rows_of(records(encoding, {fault: 0.1}, events=600)) if row[5]]
    assert {row[6].code for row in extras} == {CORRUPTIONS[fault].code}
    healthy = {row[1] for row in rows_of(records(encoding, {}, events=600))}
    assert all(event is None and value not in healthy for _, value, _, _, event, _, _ in extras)


def test_what_must_become_of_each_fault_of_time_and_repetition(encoding: Encoding) -> None:
    outcomes: dict[str, Counter[tuple[str, str]]] = {}
    for row in rows_of(
        records(encoding, {"repeats": 0.2, "times": 0.2, "writers": 0.2}, events=6000)
    ):
        outcomes.setdefault(row[5], Counter())[row[6].outcome, row[6].code] += 1
    assert set(outcomes["duplicate_now"]) == {("duplicate", "")}
    assert outcomes["duplicate_later"]["duplicate", ""] > 20
    assert set(outcomes["duplicate_expired"]) == {("accepted", ""), ("late", "LATE")}
    assert set(outcomes["id_conflict"]) == {("rejected", "ID_CONFLICT")}
    assert set(outcomes["out_of_order"]) == {("accepted", "")}
    assert set(outcomes["late"]) == set(outcomes["late_hours"]) == {("late", "LATE")}
    assert (
        set(outcomes["future_day"]) == set(outcomes["future_2099"]) == {("rejected", "FUTURE_TIME")}
    )
    for fault in ("schema_v1", "other_framing", "other_framing_v1"):
        assert set(outcomes[fault]) == {("accepted", "")}


def test_both_edges_of_the_lateness_are_visited(encoding: Encoding) -> None:
    behind: Counter[tuple[int, str]] = Counter()
    watermark: dict[int, int] = {}
    for _, _, partition, _, event, fault, _ in rows_of(
        records(encoding, {"out_of_order": 0.1, "late": 0.1})
    ):
        if fault == "":
            watermark[partition] = event["event_time"]
        else:
            behind[watermark[partition] - event["event_time"], fault] += 1
    assert behind[60_000, "out_of_order"]
    assert behind[60_001, "late"]


@given(st.integers(0, 2**63), st.integers(1, 200))
def test_ids_have_the_shape_of_a_uuid_and_do_not_repeat(seed: int, count: int) -> None:
    number = np.arange(count, dtype=np.uint64)
    ids = uuid_text(draw(stream(seed, "a"), number), draw(stream(seed, "b"), number)).to_pylist()
    assert len(set(ids)) == count
    assert all(
        verdicts._UUID.fullmatch(text) and text[14] == "4" and text[19] in "89ab" for text in ids
    )


def test_a_new_stream_moves_no_other() -> None:
    number = np.arange(4, dtype=np.uint64)
    before = draw(stream(1, "a"), number).tolist()
    draw(stream(1, "something new"), number)
    assert draw(stream(1, "a"), number).tolist() == before
    assert draw(stream(1, "a"), number[2:3]).tolist() == before[2:3]


@settings(deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 20_000), st.floats(0.5, 100.0))
def test_a_schedule_keeps_its_total_its_length_and_its_order(
    shape: str, events: int, seconds: float
) -> None:
    schedule = Schedule.of(shape, events, seconds)
    due = schedule.due_us(0, events)
    assert len(due) == events
    assert due[0] >= 0
    assert due[-1] <= seconds * 1e6
    assert (np.diff(due) >= 0).all()
    middle = events // 2
    assert schedule.due_us(middle, events).tolist() == due[middle:].tolist()


def test_shapes_put_the_load_where_they_say() -> None:
    def share(shape: str, first: float, last: float) -> float:
        due = Schedule.of(shape, 100_000, 100.0).due_us(0, 100_000) / 1e6
        return float(((due >= first) & (due < last)).mean())

    assert share("constant", 0, 25) == pytest.approx(0.25, abs=1e-3)
    assert share("ramp", 0, 50) == pytest.approx(0.30, abs=1e-3)  # 0.2/2 + 0.8/4
    assert share("flash_sale", 45, 55) == pytest.approx(2.0 / 2.9, abs=1e-3)
    assert share("burst", 7.5, 10) == pytest.approx(0.025 * 3.4, abs=1e-3)
    assert share("sine", 0, 50) == pytest.approx(0.5 + 0.8 / 3.14159, abs=1e-3)


def test_a_flash_sale_is_mostly_for_one_product(encoding: Encoding) -> None:
    rows = rows_of(records(encoding, {}, events=6000, shape="flash_sale"))
    products = Counter(
        item["product_id"] for row in rows if 47e6 < row[3] < 55e6 for item in row[4]["items"]
    )
    assert products["p-0000"] > 0.5 * products.total()


def test_every_scenario_names_known_shapes_and_faults() -> None:
    for scenario in SCENARIOS.values():
        assert scenario.shape in SHAPES
        assert set(expand(scenario.faults)) <= set(FAULTS)


def test_the_answer_key_shares_no_code() -> None:
    """Only the settings and the classes of the errors come from the flows."""
    root = Path(generators.__file__).parent
    paths = list(root.rglob("*.py"))
    assert {path.parent.name for path in paths} >= {"answer_key", "faults", "generators"}
    shared = {
        (path.relative_to(root).as_posix(), name)
        for path in paths
        for name in imported(path)
        if name.split(".")[0] in ("flows", "database", "shopstream")
    }
    assert shared == {
        ("settings.py", "flows.runtime.settings"),
        ("errors.py", "flows.domain.errors"),
    }


def test_only_the_command_line_reads_the_settings_of_the_flows() -> None:
    root = Path(generators.__file__).parent
    users = [path.name for path in root.rglob("*.py") if "generators.settings" in imported(path)]
    assert users == ["__main__.py"]


def test_what_is_shared_of_the_errors_is_classes() -> None:
    path = Path(flows.domain.errors.__file__)
    assert imported(path) <= {"__future__"}
    statements = ast.parse(path.read_text()).body
    assert {type(statement) for statement in statements} <= {ast.Expr, ast.ImportFrom, ast.ClassDef}


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
    return names
