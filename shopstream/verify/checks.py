"""The comparisons of `verify`: what came out of the pipeline against the answer key."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from flows.domain.batch import Origin
from flows.domain.metrics import MetricTable
from flows.domain.rollups import Grain, rolled
from shopstream.verify.clean_offsets import Coordinates
from shopstream.verify.ledger import Ledger

# the ledger lists no broken rule for a record that could not be read: its code says it all
UNREADABLE = {"RECORD_UNREADABLE", "RECORD_TOO_LARGE"}


@dataclass
class Check:
    """One comparison: how many things were compared, and those that differ, in words."""

    name: str
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def same(self, what: object, expected: object, actual: object) -> None:
        """Compare two values, and keep the difference."""
        self.compared += 1
        if expected != actual:
            self.differences.append(f"{what}: expected {expected}, found {actual}")

    def same_items(self, expected: dict[Any, Any], actual: dict[Any, Any]) -> None:
        """Compare two tables key by key."""
        for key in sorted(expected.keys() | actual.keys()):
            self.same(key, expected.get(key), actual.get(key))


@dataclass(frozen=True)
class DeadLetter:
    """What the table holds of a refused record; the bytes as their hash, as in the ledger."""

    code: str
    rules: list[str]
    payload_hash: bytes | None


DeadLetters = dict[Coordinates, DeadLetter]


def read_dead_letters(db: psycopg.Connection, clean: Origin) -> DeadLetters:
    """Read the dead letters of a cleaning flow, by the coordinates of their records."""
    letters = {}
    query = (
        "SELECT source_partition, source_offset, code, violations, payload"
        " FROM quality.dead_letters WHERE flow = %s AND source_topic = %s"
    )
    rows = db.execute(query, (clean.flow, clean.topic))
    for partition, offset, code, violations, payload in rows:
        rules = sorted({v["rule"] for v in violations} - UNREADABLE)
        digest = None if payload is None else hashlib.blake2b(payload, digest_size=16).digest()
        letters[partition, offset] = DeadLetter(code, rules, digest)
    return letters


def check_outcomes(ledger: Ledger, accepted: set[Coordinates], letters: DeadLetters) -> Check:
    """Check that every record has the expected outcome, and that nothing came that was not sent."""
    check = Check("outcomes")
    sent = set()
    for event in ledger.events:
        coordinates = (event["partition"], event["offset"])
        sent.add(coordinates)
        outcome = _outcome_of(coordinates, accepted, letters)
        check.same(coordinates, event["expected_outcome"], outcome)
    check.differences += [f"{c}: accepted, but never sent" for c in sorted(accepted - sent)]
    check.differences += [
        f"{c}: dead letter, but never sent" for c in sorted(letters.keys() - sent)
    ]
    return check


def _outcome_of(coordinates: Coordinates, accepted: set[Coordinates], letters: DeadLetters) -> str:
    is_accepted = coordinates in accepted
    if coordinates not in letters:
        # a duplicate leaves no trace but its count, which the tallies are checked for
        return "accepted" if is_accepted else "duplicate"
    outcome = "late" if letters[coordinates].code == "LATE" else "rejected"
    return f"{outcome} and accepted" if is_accepted else outcome


def check_dead_letters(ledger: Ledger, letters: DeadLetters) -> Check:
    """Check that every dead letter has the expected code, all broken rules and the same bytes."""
    check = Check("dead letters: code, rules, bytes")
    for event in ledger.events:
        letter = letters.get((event["partition"], event["offset"]))
        if letter is not None:
            check.same(
                (event["partition"], event["offset"]),
                (event["expected_code"], sorted(event["expected_rules"]), event["payload_hash"]),
                (letter.code, letter.rules, letter.payload_hash),
            )
    return check


def check_tallies(ledger: Ledger, db: psycopg.Connection, clean: Origin) -> Iterator[Check]:
    """Check that the counts by outcome and by rule add up to the ledger's."""
    outcomes, rules = expected_tallies(ledger)
    by_outcome = {
        (outcome, code): records
        for outcome, code, records in db.execute(
            "SELECT outcome, code, sum(records)::bigint FROM quality.outcomes_1m"
            " WHERE flow = %s AND source_topic = %s GROUP BY outcome, code",
            (clean.flow, clean.topic),
        )
    }
    by_rule = {
        rule: broken
        for rule, broken in db.execute(
            # the view adds up all families; a partition below 0 is synthetic
            "SELECT rule, sum(broken)::bigint FROM quality.rules_1m_by_partition"
            " WHERE flow = %s AND source_topic = %s AND partition >= 0 GROUP BY rule",
            (clean.flow, clean.topic),
        )
        if broken
    }
    for name, expected, actual in (
        ("tallies by outcome", outcomes, by_outcome),
        ("tallies by rule", rules, by_rule),
    ):
        check = Check(name)
        check.same_items(dict(expected), actual)
        yield check


def expected_tallies(ledger: Ledger) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Count the ledger's events by outcome and code, and by broken rule."""
    outcomes, rules = Counter[tuple[str, str]](), Counter[str]()
    for event in ledger.events:
        outcome, code = event["expected_outcome"], event["expected_code"] or ""
        outcomes[outcome, code] += 1
        rules.update(event["expected_rules"])
        if outcome == "duplicate":
            rules["EVENT_ID_REPEATED"] += 1
        elif code == "TOO_LARGE":
            rules["RECORD_TOO_LARGE"] += 1
        elif outcome == "rejected" and not event["expected_rules"]:
            rules["RECORD_UNREADABLE"] += 1
    return outcomes, rules


def check_minutes(ledger: Ledger, db: psycopg.Connection, metric: MetricTable) -> tuple[Check, int]:
    """Check every cell of a view of minutes that the ledger knows; gives also its expected rows."""
    keys = ["window_start", *(d.name for d in metric.by)]
    measures = [m.name for m in metric.measures if m.name in ledger.columns(metric.name)]
    expected = {tuple(row[k] for k in keys): row for row in ledger.gold(metric.name).to_pylist()}
    query = sql.SQL("SELECT {} FROM gold.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, keys + measures)), sql.Identifier(metric.name)
    )
    actual = {
        tuple(row[: len(keys)]): dict(zip(measures, row[len(keys) :], strict=True))
        for row in db.execute(query)
    }
    check = Check(f"gold.{metric.name}")
    for key in expected.keys() | actual.keys():
        for measure in measures:
            check.same(
                f"{measure} at {' '.join(map(str, key))}",
                expected[key][measure] if key in expected else None,
                actual[key][measure] if key in actual else None,
            )
    return check, len(expected)


def check_rollup(db: psycopg.Connection, metric: MetricTable, grain: Grain) -> Check:
    """Check every sum of an hour or day against a recount of the minutes, which are checked too."""
    coarse = rolled(metric, grain)
    keys = ["window_start", *(d.name for d in metric.by)]
    sums = [m.name for m in coarse.stored]
    by, totals = ", ".join(keys[1:]), ", ".join(f"sum({name})::bigint" for name in sums)
    width = {Grain.HOUR: "hour", Grain.DAY: "day"}[grain]
    recount = (
        f"SELECT date_trunc('{width}', window_start, 'UTC'), {by}, {totals} FROM gold.{metric.name}"
        f" GROUP BY 1, {by}"
    )
    stored = f"SELECT {', '.join(keys + sums)} FROM gold.{coarse.name}"
    expected, actual = (
        {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in db.execute(query.encode())}
        for query in (recount, stored)
    )
    check = Check(f"gold.{coarse.name}")
    for key in expected.keys() | actual.keys():
        what = f"{', '.join(sums)} at {' '.join(map(str, key))}"
        check.same(what, expected.get(key), actual.get(key))
    return check
