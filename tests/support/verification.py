"""Everything that came out of a stack, held against the plain oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from tests.support import plain_oracle as oracle
from tests.support.plain_oracle import Limits, Stored, Verdict
from tests.support.web_events import CLEAN, CLEAN_BATCH, LETTER

if TYPE_CHECKING:
    from tests.support.stack import Stack

Place = tuple[int, int]
"""Partition and offset of a record of the raw topic."""
Gold = dict[str, dict[tuple[Any, ...], dict[str, int]]]
GOLD = ("traffic_1m", "orders_1m", "sales_1m", "products_1m", "searches_1m")


def verify(stack: Stack, limits: Limits, cap: int) -> dict[Place, Verdict]:
    """Compare topics and tables with what the oracle makes of the raw topic; gives its verdicts."""
    log = stack.read("raw.web")
    verdicts = oracle.judge(log, limits)
    events = verify_clean_events(stack, log, verdicts)
    verify_dead_letters(stack, log, verdicts)
    expected = oracle.gold([(place[0], events[place]) for place in sorted(events)], cap)
    assert gold(stack) == expected
    verify_views(stack, expected)
    verify_tallies(stack, log, verdicts)
    return verdicts


def verify_clean_events(
    stack: Stack, log: list[Stored], verdicts: dict[Place, Verdict]
) -> dict[Place, dict[str, Any]]:
    """Hold clean.web against what was accepted; gives its events by the place of their record."""
    by_place = {(r.partition, r.offset): r for r in log}
    events: dict[Place, dict[str, Any]] = {}
    for record in stack.read("clean.web"):
        for event in clean_events(record.value):
            place = event["source_partition"], event["source_offset"]
            assert events.setdefault(place, event) == event, "repeated with other content"
            assert record.partition == place[0]
            assert event["source_timestamp"] == by_place[place].timestamp
    assert events.keys() == {place for place, v in verdicts.items() if v.outcome == "accepted"}
    for place, event in events.items():
        read = oracle.read(by_place[place].value, 10**9)
        assert {name: event[name] for name in read} == read
    return events


def verify_dead_letters(stack: Stack, log: list[Stored], verdicts: dict[Place, Verdict]) -> None:
    """Hold the topic and the table of dead letters against what was refused."""
    values = {(r.partition, r.offset): r.value for r in log}
    expected = {place: (values[place], v.code, v.rules) for place, v in verdicts.items() if v.code}
    on_topic = {
        (letter["source_partition"], letter["source_offset"]): (
            letter["payload"],
            letter["code"],
            broken(letter["violations"]),
        )
        for record in stack.read("dead.letters")
        if (letter := letter_of(record.value)) is not None
        and letter["source_topic"] == stack.topic("raw.web")
    }
    assert on_topic == expected
    rows = stack.query(
        "SELECT source_partition, source_offset, payload, code, violations FROM"
        " quality.dead_letters WHERE source_topic = %s",
        stack.topic("raw.web"),
    )
    assert {
        (partition, offset): (payload, code, broken(violations))
        for partition, offset, payload, code, violations in rows
    } == expected


def broken(violations: list[dict[str, Any]]) -> tuple[str, ...]:
    """Give the names of the broken rules."""
    return tuple(sorted(violation["rule"] for violation in violations))


def verify_tallies(stack: Stack, log: list[Stored], verdicts: dict[Place, Verdict]) -> None:
    """Hold the counts of outcomes and broken rules, minute by minute."""
    outcomes = stack.query(
        "SELECT partition, extract(epoch FROM window_start)::bigint * 1000, outcome, code,"
        " records FROM quality.outcomes_1m_by_partition"
    )
    assert {row[:4]: row[4] for row in outcomes} == oracle.outcome_tallies(log, verdicts)
    rules = stack.query(
        "SELECT partition, extract(epoch FROM window_start)::bigint * 1000, rule, broken FROM"
        " quality.rules_1m_by_partition WHERE broken > 0"
    )
    assert {row[:3]: row[3] for row in rules} == oracle.broken_tallies(log, verdicts)


def gold(stack: Stack) -> Gold:
    """Read the gold tables in the oracle's words: times in ms, zeros left out."""
    tables: Gold = {}
    with psycopg.connect(stack.database_url, options="-c timezone=UTC") as db:
        for name in GOLD:
            cursor = db.execute(f"SELECT * FROM gold.{name}_by_partition".encode())
            columns = [column.name for column in cursor.description or ()]
            measures = columns.index("events") if name != "traffic_1m" else len(columns) - 2
            tables[name] = {
                (int(row[0].timestamp() * 1000), *row[1:measures]): {
                    measure: n
                    for measure, n in zip(columns[measures:], row[measures:], strict=True)
                    if n
                }
                for row in cursor
            }
    return tables


def verify_views(stack: Stack, expected: Gold) -> None:
    """Hold the views, which add the partitions up."""
    for name, column in (("traffic_1m", "events"), ("searches_1m", "searches")):
        total = sum(row["events"] for row in expected[name].values())
        statement = f"SELECT coalesce(sum({column}), 0)::bigint FROM gold.{name}"
        assert stack.query(statement) == [(total,)]
    net = sum(
        row.get("gross_minor", 0) - row.get("discount_minor", 0) - row.get("refund_minor", 0)
        for row in expected["orders_1m"].values()
    )
    assert stack.query("SELECT coalesce(sum(net_minor), 0)::bigint FROM gold.orders_1m") == [(net,)]


def clean_events(value: bytes | None) -> list[dict[str, Any]]:
    """Read the events in a record of clean.web; none in what is no clean event."""
    try:
        if value and value.startswith(CLEAN.header):
            return [CLEAN.read(value)]
        if value and value.startswith(CLEAN_BATCH.header):
            return list(CLEAN_BATCH.read(value)["events"])
    except (EOFError, IndexError, UnicodeDecodeError):  # what a test wrote there to be refused
        pass
    return []


def letter_of(value: bytes | None) -> dict[str, Any] | None:
    """Read the dead letter in a record, unless a test wrote something else there."""
    try:
        return LETTER.read(value) if value and value.startswith(LETTER.header) else None
    except (EOFError, IndexError, UnicodeDecodeError):
        return None
