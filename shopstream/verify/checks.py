"""The comparisons of `verify`: what came out of the pipeline against the answer key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from flows.domain import rules
from flows.domain.batch import Origin
from flows.domain.family import Family
from flows.domain.metrics import MetricTable
from flows.domain.rollups import WIDTHS, Grain, rolled
from flows.domain.rules import Rule
from flows.domain.text import printable
from shopstream.verify.ledger import Ledger
from shopstream.verify.plain_avro import PlainAvro
from shopstream.verify.topics import Coordinates, Seen

# the ledger lists no broken rule for a record that could not be read: its code says it all
UNREADABLE = {"RECORD_UNREADABLE", "RECORD_TOO_LARGE"}
# codes of records that reach the rules
READABLE = {"INVALID", "FUTURE_TIME", "LATE", "ID_CONFLICT", None, ""}
MINUTE_MS = 60_000


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
        for key in sorted(expected.keys() | actual.keys(), key=str):
            self.same(key, expected.get(key), actual.get(key))


@dataclass(frozen=True)
class DeadLetter:
    """What the table holds of a refused record. Time: `timestamp` in Unix ms."""

    code: str
    violations: list[dict[str, Any]]
    payload: bytes | None
    key: bytes | None
    timestamp: int
    fingerprint: str | None

    @property
    def rules(self) -> list[str]:
        """Name the broken rules that the ledger knows."""
        return sorted({v["rule"] for v in self.violations} - UNREADABLE)

    @property
    def payload_hash(self) -> bytes | None:
        """Hash the bytes as the ledger does."""
        return None if self.payload is None else blake2b(self.payload, digest_size=16).digest()


DeadLetters = dict[Coordinates, DeadLetter]


def read_dead_letters(db: psycopg.Connection, clean: Origin) -> DeadLetters:
    """Read the dead letters of a cleaning flow, by the coordinates of their records."""
    query = (
        "SELECT source_partition, source_offset, code, violations, payload, source_key,"
        " (extract(epoch FROM source_timestamp) * 1000)::bigint, schema_fingerprint"
        " FROM quality.dead_letters WHERE flow = %s AND source_topic = %s"
    )
    rows = db.execute(query, (clean.flow, clean.topic))
    return {(partition, offset): DeadLetter(*rest) for partition, offset, *rest in rows}


def check_outcomes(ledger: Ledger, seen: Seen, letters: DeadLetters) -> Check:
    """Check that every record has the expected outcome, and that nothing came that was not sent."""
    check = Check("outcomes")
    sent = set()
    for event in ledger.events:
        place = (event["partition"], event["offset"])
        sent.add(place)
        check.same(place, event["expected_outcome"], _outcome_of(place, seen, letters))
    check.differences += [
        f"{c}: accepted, but never sent" for c in sorted(seen.clean.keys() - sent)
    ]
    check.differences += [
        f"{c}: dead letter, but never sent" for c in sorted(letters.keys() - sent)
    ]
    if not ledger.events:
        check.differences.append("nothing was sent, so nothing is verified")
    return check


def _outcome_of(place: Coordinates, seen: Seen, letters: DeadLetters) -> str:
    is_accepted = place in seen.clean
    if place not in letters:
        # a duplicate leaves no trace but its count, which the tallies are checked for
        return "accepted" if is_accepted else "duplicate"
    outcome = "late" if letters[place].code == "LATE" else "rejected"
    return f"{outcome} and accepted" if is_accepted else outcome


def check_raw(ledger: Ledger, seen: Seen) -> Check:
    """Check that the topic holds what was sent, as far as the broker still has it."""
    check = Check("raw records: bytes")
    for event in ledger.events:
        record = seen.raw.get((event["partition"], event["offset"]))
        if record is not None:
            place = event["partition"], event["offset"]
            check.same(place, event["payload_hash"], record.payload_hash)
    return check


def check_clean_events(seen: Seen) -> Check:
    """Check that each accepted event says what its raw record says, field by field."""
    check = Check("clean events: fields, Kafka timestamp, number")
    counts: Counter[int] = Counter()
    for place, clean in sorted(seen.clean.items()):
        counts[place[0]] += 1
        check.same(f"number of {place}", counts[place[0]], clean.number)
        raw = seen.raw.get(place)
        if raw is None:
            continue  # the broker has it no more
        check.same(f"timestamp of {place}", raw.timestamp, clean.timestamp)
        if raw.event is not None:
            check.same(f"fields of {place}", raw.event.hex(), clean.event.hex())
    return check


def check_dead_letters(
    ledger: Ledger, seen: Seen, letters: DeadLetters, family: Family
) -> Iterator[Check]:
    """Check code, rules, bytes, key, timestamp and fingerprint of every letter, and its values."""
    said, source = Check("dead letters: code, rules, bytes"), Check("dead letters: source")
    values = Check("dead letters: fields and values")
    avro = PlainAvro(family.contract)
    known = {rule.name: rule for rule in (*family.rules, *family.item_rules, *rules.JUDGED_RULES)}
    for event in ledger.events:
        place = (event["partition"], event["offset"])
        letter, raw = letters.get(place), seen.raw.get(place)
        if letter is None:
            continue
        said.same(
            place,
            (event["expected_code"], sorted(event["expected_rules"]), event["payload_hash"]),
            (letter.code, letter.rules, letter.payload_hash),
        )
        if raw is not None:
            source.same(f"key of {place}", raw.key, letter.key)
            source.same(f"timestamp of {place}", raw.timestamp, letter.timestamp)
        if letter.code in READABLE:
            source.same(
                f"fingerprint of {place}", avro.writer_of(letter.payload), letter.fingerprint
            )
            _check_values(values, place, letter, avro.read(letter.payload), known)
    yield from (said, source, values)


def _check_values(
    check: Check,
    place: Coordinates,
    letter: DeadLetter,
    event: dict[str, Any] | None,
    known: dict[str, Rule],
) -> None:
    for violation in letter.violations:
        rule = known.get(violation["rule"])
        if rule is None or not rule.field or event is None:
            continue
        what = f"{rule.name} of {place}"
        check.same(f"field of {what}", rule.field, violation["field"])
        name, _, part = rule.field.partition(".")
        value = event.get(name)
        if part or isinstance(value, list):
            check.same(f"value of {what}: is there", True, violation["value"] is not None)
        elif name != "event_time":
            expected = None if value is None else printable(value)
            check.same(f"value of {what}", expected, violation["value"])
        else:
            check.same(f"value of {what}: is there", True, violation["value"] is not None)


def check_tallies(
    ledger: Ledger, db: psycopg.Connection, clean: Origin, seen: Seen
) -> Iterator[Check]:
    """Check that the counts by outcome and by rule add up to the ledger's."""
    outcomes, broken = expected_tallies(ledger)
    by_outcome = {
        (outcome, code): records
        for outcome, code, records in db.execute(
            "SELECT outcome, code, sum(records)::bigint FROM quality.outcomes_1m"
            " WHERE flow = %s AND source_topic = %s GROUP BY outcome, code",
            (clean.flow, clean.topic),
        )
    }
    by_rule = {
        rule: count
        for rule, count in db.execute(
            # the view adds up all families; a partition below 0 is synthetic
            "SELECT rule, sum(broken)::bigint FROM quality.rules_1m_by_partition"
            " WHERE flow = %s AND source_topic = %s AND partition >= 0 GROUP BY rule",
            (clean.flow, clean.topic),
        )
        if count
    }
    for name, expected, actual in (
        ("tallies by outcome", outcomes, by_outcome),
        ("tallies by rule", broken, by_rule),
    ):
        check = Check(name)
        check.same_items(dict(expected), actual)
        yield check
    if len(seen.raw) == len(ledger.events):  # else the broker has not all of them any more
        yield _check_minutes_of_outcomes(ledger, db, clean, seen)


def _check_minutes_of_outcomes(
    ledger: Ledger, db: psycopg.Connection, clean: Origin, seen: Seen
) -> Check:
    check = Check("tallies by minute of the Kafka timestamp")
    expected: Counter[tuple[int, int, str, str]] = Counter()
    newest: dict[int, int] = {}
    order = {(e["partition"], e["offset"]): e for e in ledger.events}
    for place in sorted(order):
        event, stamp = order[place], seen.raw[place].timestamp
        # a record far behind its partition's newest counts in the oldest minute that is open
        newest[place[0]] = max(newest.get(place[0], stamp), stamp)
        minute = max(stamp, newest[place[0]] - MINUTE_MS) // MINUTE_MS * MINUTE_MS
        key = place[0], minute, event["expected_outcome"], event["expected_code"] or ""
        expected[key] += 1
    actual = {
        (partition, minute, outcome, code): records
        for partition, minute, outcome, code, records in db.execute(
            "SELECT partition, (extract(epoch FROM window_start) * 1000)::bigint, outcome, code,"
            " records FROM quality.outcomes_1m_by_partition"
            " WHERE flow = %s AND source_topic = %s AND partition >= 0",
            (clean.flow, clean.topic),
        )
    }
    check.same_items(dict(expected), actual)
    return check


def expected_tallies(ledger: Ledger) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Count the ledger's events by outcome and code, and by broken rule."""
    outcomes, broken = Counter[tuple[str, str]](), Counter[str]()
    for event in ledger.events:
        outcome, code = event["expected_outcome"], event["expected_code"] or ""
        outcomes[outcome, code] += 1
        broken.update(event["expected_rules"])
        if outcome == "duplicate":
            broken["EVENT_ID_REPEATED"] += 1
        elif code == "TOO_LARGE":
            broken["RECORD_TOO_LARGE"] += 1
        elif outcome == "rejected" and not event["expected_rules"]:
            broken["RECORD_UNREADABLE"] += 1
    return outcomes, broken


def check_checked(
    ledger: Ledger, db: psycopg.Connection, clean: Origin, seen: Seen, family: Family
) -> Check:
    """Check how often each rule was checked."""
    check = Check("checks by rule")
    codes = Counter((e["expected_outcome"], e["expected_code"] or "") for e in ledger.events)
    everything, large = codes.total(), codes["rejected", "TOO_LARGE"]
    readable = sum(n for (_, code), n in codes.items() if code in READABLE)
    timed = sum(n for (outcome, code), n in codes.items() if outcome != "rejected")
    timed += codes["rejected", "ID_CONFLICT"]
    expected = {
        "RECORD_MISSING": everything,
        "RECORD_TOO_LARGE": everything,
        "RECORD_UNREADABLE": everything - large,
        "EVENT_TIME_LATE": timed,
        "EVENT_ID_REPEATED": timed - codes["late", "LATE"],
        "EVENT_ID_CONFLICT": timed - codes["late", "LATE"],
    }
    expected |= {r.name: readable for r in family.rules if r.when is rules.ALWAYS}
    if len(seen.raw) == len(ledger.events):
        expected |= _checked_on_condition(ledger, seen, family)
    actual: dict[str, int] = dict(
        db.execute(
            "SELECT rule, sum(checked)::bigint FROM quality.rules_1m_by_partition"
            " WHERE flow = %s AND source_topic = %s AND partition >= 0 GROUP BY rule",
            (clean.flow, clean.topic),
        ).fetchall()
    )
    for name, count in expected.items():
        check.same(name, count, actual.get(name, 0))
    return check


def _checked_on_condition(ledger: Ledger, seen: Seen, family: Family) -> dict[str, int]:
    kinds: Counter[tuple[str, bool]] = Counter()
    for event in ledger.events:
        kind = seen.raw[event["partition"], event["offset"]].kind
        if kind is not None and event["expected_code"] in READABLE:
            kinds[kind] += 1
    if not kinds:
        return {}
    frame = pl.DataFrame(
        [(event_type, has_items, count) for (event_type, has_items), count in kinds.items()],
        schema={"event_type": pl.String, "items": pl.Boolean, "count": pl.Int64},
        orient="row",
    )
    conditional = [r for r in family.rules if r.when is not rules.ALWAYS]
    counts = {
        r.name: int(frame.filter(r.when)["count"].sum())
        for r in conditional
        if set(r.when.meta.root_names()) <= {"event_type"}
    }
    return counts | dict.fromkeys(
        (r.name for r in family.item_rules), int(frame.filter("items")["count"].sum())
    )


def check_progress(ledger: Ledger, db: psycopg.Connection, metrics: Origin) -> Check:
    """Check how far metrics says that it is, and how many events it has counted by minute."""
    check = Check("progress and events by minute")
    last: dict[int, tuple[int, int]] = {}
    minutes: Counter[tuple[int, datetime]] = Counter()
    for event in sorted(ledger.events, key=lambda e: (e["partition"], e["offset"])):
        if event["expected_outcome"] == "accepted":
            p = event["partition"]
            last[p] = event["offset"], last.get(p, (0, 0))[1] + 1
            if (time := event.get("event_time")) is not None:
                minutes[p, time.replace(second=0, microsecond=0)] += 1
    origin = (metrics.flow, metrics.topic)
    rows = db.execute(
        "SELECT partition, source_offset, accepted FROM ops.progress"
        " WHERE flow = %s AND source_topic = %s AND partition >= 0",
        origin,
    ).fetchall()
    check.same_items(last, {p: (offset, accepted) for p, offset, accepted in rows})
    rows = db.execute(
        "SELECT partition, window_start, events FROM ops.counted_1m"
        " WHERE flow = %s AND source_topic = %s AND partition >= 0",
        origin,
    ).fetchall()
    if minutes:  # else the answer key tells no times
        check.same_items(dict(minutes), {(p, start): events for p, start, events in rows})
    return check


def check_account(db: psycopg.Connection, clean: Origin) -> Check:
    """Check that nothing is left over, for outcomes and for gold."""
    check = Check("residues")
    for view, name in (("ops.account", "residue"), ("ops.gold_account", "gold_residue")):
        query = f"SELECT partition, {name} FROM {view} WHERE source_topic = %s"
        for partition, residue in db.execute(query.encode(), (clean.topic,)):
            check.same(f"{name} of partition {partition}", 0, residue)
    return check


def check_minutes(ledger: Ledger, db: psycopg.Connection, metric: MetricTable) -> tuple[Check, int]:
    """Check every cell of a view of minutes that the ledger knows; gives also its expected rows."""
    keys = ["window_start", *(d.name for d in metric.by)]
    measures = [m.name for m in metric.measures if m.name in ledger.columns(metric.name)]
    expected = {tuple(row[k] for k in keys): row for row in ledger.gold(metric.name).to_pylist()}
    check = Check(f"gold.{metric.name}")
    _check_cells(check, expected, _stored(db, metric.name, keys, measures), measures)
    return check, len(expected)


def check_rollup(
    ledger: Ledger, db: psycopg.Connection, metric: MetricTable, grain: Grain
) -> Check:
    """Check every sum of an hour or day against the ledger's minutes."""
    coarse = rolled(metric, grain)
    keys = ["window_start", *(d.name for d in metric.by)]
    sums = [m.name for m in coarse.stored if m.name in ledger.columns(metric.name)]
    seconds = int(WIDTHS[grain].total_seconds())
    expected: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in ledger.gold(metric.name).to_pylist():
        start = row["window_start"]
        begin = datetime.fromtimestamp(int(start.timestamp()) // seconds * seconds, tz=start.tzinfo)
        cells = expected.setdefault((begin, *(row[k] for k in keys[1:])), dict.fromkeys(sums, 0))
        for name in sums:
            cells[name] += row[name]
    check = Check(f"gold.{coarse.name}")
    _check_cells(check, expected, _stored(db, coarse.name, keys, sums), sums)
    return check


def _stored(
    db: psycopg.Connection, view: str, keys: list[str], measures: list[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    query = sql.SQL("SELECT {} FROM gold.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, keys + measures)), sql.Identifier(view)
    )
    return {
        tuple(row[: len(keys)]): dict(zip(measures, row[len(keys) :], strict=True))
        for row in db.execute(query)
    }


def _check_cells(
    check: Check,
    expected: dict[tuple[Any, ...], dict[str, Any]],
    actual: dict[tuple[Any, ...], dict[str, Any]],
    measures: list[str],
) -> None:
    for key in expected.keys() | actual.keys():
        for measure in measures:
            check.same(
                f"{measure} at {' '.join(map(str, key))}",
                expected[key][measure] if key in expected else None,
                actual[key][measure] if key in actual else None,
            )


def check_rollup_is_up_to_date(db: psycopg.Connection) -> Check:
    """Check that the roll-up job has seen every change."""
    check = Check("hours and days are up to date")
    row = db.execute("SELECT count(DISTINCT hour) FROM ops.changes").fetchone()
    check.same("hours that wait for the roll-up job", 0, row[0] if row else None)
    return check
