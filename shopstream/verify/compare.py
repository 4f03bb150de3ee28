"""`shopstream verify`: hold what the pipeline made against the generator's answer key, record by
record and cell by cell.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql
from rich.console import Console
from rich.table import Table

from database.connection import connect
from database.rollup import roll_up
from flows.domain.families import CATALOGUE
from flows.domain.metrics import MetricTable
from flows.domain.rollups import Grain, rolled
from flows.runtime.settings import Settings, settings_or_exit
from shopstream.verify.clean_offsets import AcceptedOffsets, Place

SHOWN = 8
UNREADABLE = {"RECORD_UNREADABLE", "RECORD_TOO_LARGE"}


@dataclass
class Check:
    """One comparison: how many things were compared, and those that differ, in words."""

    name: str
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def same(self, what: object, expected: object, found: object) -> None:
        self.compared += 1
        if expected != found:
            self.differences.append(f"{what}: expected {expected}, found {found}")


@dataclass(frozen=True)
class Report:
    events: int
    rows: int
    checks: list[Check]
    unproved: list[str]

    @property
    def differences(self) -> int:
        return sum(len(c.differences) for c in self.checks)

    @property
    def line(self) -> str:
        word = "verified" if self.differences == 0 else "NOT verified"
        return f"{word}: {self.events} events, {self.rows} rows, {self.differences} differences"


class Ledger:
    """The answer key of a run. Errors: a folder without one is a ValueError that names it."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "events.parquet").exists():
            raise ValueError(f"{folder} holds no ledger: events.parquet is missing")
        self._folder = folder
        self.events: list[dict[str, Any]] = pq.read_table(
            folder / "events.parquet",
            columns=[
                "partition",
                "offset",
                "payload_hash",
                "expected_outcome",
                "expected_code",
                "expected_rules",
            ],
        ).to_pylist()

    def columns(self, view: str) -> set[str]:
        """What the answer key knows of a view: nothing of one that it has never heard of."""
        path = self._folder / "gold" / f"{view}.parquet"
        return set(pq.read_schema(path).names) if path.exists() else set()

    def gold(self, view: str) -> pa.Table:
        return pq.read_table(self._folder / "gold" / f"{view}.parquet")


def verify(ledger: Ledger, settings: Settings, accepted: set[Place]) -> Report:
    """Compare outcomes, dead letters, tallies and every cell of every view, of hours and days too.

    What flows wrote last may not be in hours and days yet: that is done first.
    """
    with connect(settings.database_url, settings.startup_seconds) as db:
        db.execute("SET shopstream.synthetic = off")
        roll_up(db)
        letters = dead_letters(db, settings.topic("topic_raw_web"))
        checks = [
            check_outcomes(ledger, accepted, letters),
            check_letters(ledger, letters),
            *check_tallies(ledger, db, settings.topic("topic_raw_web")),
        ]
        rows = 0
        unproved = []
        for metric in CATALOGUE:
            unproved += [
                f"{metric.name}.{m.name}"
                for m in metric.measures
                if m.name not in ledger.columns(metric.name)
            ]
            if not ledger.columns(metric.name):
                continue
            check, count = check_view(ledger, db, metric.name)
            checks.append(check)
            checks += [check_rollup(db, metric, grain) for grain in (Grain.HOUR, Grain.DAY)]
            rows += count
    return Report(len(ledger.events), rows, checks, unproved)


def dead_letters(
    db: psycopg.Connection, topic: str
) -> dict[Place, tuple[str, list[str], bytes | None]]:
    """Where -> code, broken rules, hash of the bytes."""
    found = {}
    query = (
        "SELECT source_partition, source_offset, code, violations, payload FROM"
        " quality.dead_letters WHERE source_topic = %s AND flow = 'clean'"
    )
    for partition, offset, code, violations, payload in db.execute(query, (topic,)):
        rules = sorted({v["rule"] for v in violations} - UNREADABLE)
        digest = None if payload is None else hashlib.blake2b(payload, digest_size=16).digest()
        found[partition, offset] = (code, rules, digest)
    return found


def check_outcomes(ledger: Ledger, accepted: set[Place], letters: dict[Place, Any]) -> Check:
    """Every record has the outcome that was foreseen, and nothing came out that was not sent."""
    check = Check("outcomes")
    places = set()
    for event in ledger.events:
        place = (event["partition"], event["offset"])
        places.add(place)
        if place in letters:
            found = "late" if letters[place][0] == "LATE" else "rejected"
            found = f"{found} and accepted" if place in accepted else found
        else:
            found = (
                "accepted" if place in accepted else "duplicate"
            )  # their number stands in the tallies
        check.same(place, event["expected_outcome"], found)
    check.differences += [
        f"{place}: accepted, but never sent" for place in sorted(accepted - places)
    ]
    check.differences += [
        f"{place}: dead letter, but never sent" for place in sorted(letters.keys() - places)
    ]
    return check


def check_letters(
    ledger: Ledger, letters: dict[Place, tuple[str, list[str], bytes | None]]
) -> Check:
    """Every dead letter has the code, all the rules and the exact bytes."""
    check = Check("dead letters: code, rules, bytes")
    for event in ledger.events:
        found = letters.get((event["partition"], event["offset"]))
        if found is not None:
            expected = (
                event["expected_code"],
                sorted(event["expected_rules"]),
                event["payload_hash"],
            )
            check.same((event["partition"], event["offset"]), expected, found)
    return check


def check_tallies(ledger: Ledger, db: psycopg.Connection, topic: str) -> Iterator[Check]:
    """Counts by outcome and by rule add up to the ledger's."""
    outcomes, broken = Counter[tuple[str, str]](), Counter[str]()
    for event in ledger.events:
        outcomes[event["expected_outcome"], event["expected_code"] or ""] += 1
        broken.update(event["expected_rules"])
        if event["expected_outcome"] == "duplicate":
            broken["EVENT_ID_REPEATED"] += 1
        elif event["expected_code"] == "TOO_LARGE":
            broken["RECORD_TOO_LARGE"] += 1
        elif event["expected_outcome"] == "rejected" and not event["expected_rules"]:
            broken["RECORD_UNREADABLE"] += 1
    told = {
        (outcome, code): records
        for outcome, code, records in db.execute(
            "SELECT outcome, code, sum(records)::bigint FROM quality.outcomes_1m"
            " WHERE flow = 'clean' AND source_topic = %s GROUP BY outcome, code",
            (topic,),
        )
    }
    rules: dict[str, int] = dict(
        db.execute(
            "SELECT rule, sum(broken)::bigint FROM quality.rules_1m GROUP BY rule"
        ).fetchall()
    )
    yield compare("tallies by outcome", outcomes, told)
    yield compare("tallies by rule", broken, {rule: n for rule, n in rules.items() if n})


def compare(name: str, expected: dict[Any, Any], found: dict[Any, Any]) -> Check:
    check = Check(name)
    for key in sorted(expected.keys() | found.keys()):
        check.same(key, expected.get(key), found.get(key))
    return check


def check_view(ledger: Ledger, db: psycopg.Connection, view: str) -> tuple[Check, int]:
    """Every cell of a view; gives the number of rows that were expected too."""
    metric = next(m for m in CATALOGUE if m.name == view)
    keys = ["window_start", *(d.name for d in metric.by)]
    values = [m.name for m in metric.measures if m.name in ledger.columns(view)]
    expected = {tuple(row[k] for k in keys): row for row in ledger.gold(view).to_pylist()}
    query = sql.SQL("SELECT {} FROM gold.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, keys + values)), sql.Identifier(view)
    )
    found = {
        tuple(row[: len(keys)]): dict(zip(values, row[len(keys) :], strict=True))
        for row in db.execute(query)
    }
    check = Check(f"gold.{view}")
    for key in expected.keys() | found.keys():
        for value in values:
            check.same(
                f"{value} at {' '.join(map(str, key))}",
                expected[key][value] if key in expected else None,
                found[key][value] if key in found else None,
            )
    return check, len(expected)


def check_rollup(db: psycopg.Connection, metric: MetricTable, grain: Grain) -> Check:
    """Every sum of an hour or day against a plain recount of the minutes, of which the ledger's are
    the measure.
    """
    coarse = rolled(metric, grain)
    keys = ["window_start", *(d.name for d in metric.by)]
    sums = [m.name for m in coarse.stored]
    by, total = ", ".join(keys[1:]), ", ".join(f"sum({name})::bigint" for name in sums)
    width = {Grain.HOUR: "hour", Grain.DAY: "day"}[grain]
    recount = (
        f"SELECT date_trunc('{width}', window_start, 'UTC'), {by}, {total} FROM gold.{metric.name}"
        f" GROUP BY 1, {by}"
    )
    stored = f"SELECT {', '.join(keys + sums)} FROM gold.{coarse.name}"
    expected, found = (
        {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in db.execute(query)}
        for query in (recount, stored)
    )
    check = Check(f"gold.{coarse.name}")
    for key in expected.keys() | found.keys():
        check.same(
            f"{', '.join(sums)} at {' '.join(map(str, key))}", expected.get(key), found.get(key)
        )
    return check


def show(report: Report, console: Console) -> None:
    """The table of checks, the first differences of each, and the last line."""
    table = Table("check", "compared", "different", box=None)
    for check in report.checks:
        table.add_row(
            check.name,
            f"{check.compared:,}",
            str(len(check.differences)) if check.differences else "-",
        )
    console.print(table)
    for check in report.checks:
        for difference in check.differences[:SHOWN]:
            console.print(
                f"  {check.name}: {difference}", markup=False, highlight=False, soft_wrap=True
            )
        if len(check.differences) > SHOWN:
            console.print(f"  {check.name}: and {len(check.differences) - SHOWN} more")
    if report.unproved:
        console.print(
            f"not in the answer key, so not proved: {', '.join(report.unproved)}", highlight=False
        )
    console.print(report.line, highlight=False, soft_wrap=True)


def junit(report: Report, path: Path) -> None:
    """The checks as JUnit XML, which every CI shows."""
    suite = ET.Element("testsuite", name="shopstream verify", tests=str(len(report.checks)))
    suite.set("failures", str(sum(bool(c.differences) for c in report.checks)))
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", name=check.name, classname="verify")
        if check.differences:
            failure = ET.SubElement(
                case, "failure", message=f"{len(check.differences)} differences"
            )
            failure.text = "\n".join(check.differences[:1000])
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ledger", type=Path, required=True, metavar="DIR", help="the answer key of the run"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the checks as JUnit XML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    try:
        ledger = Ledger(args.ledger)
    except (ValueError, OSError) as error:
        print(error)
        return 2
    began = time.monotonic()
    with AcceptedOffsets(settings) as accepted:
        report = verify(ledger, settings, accepted.until_the_end())
    console = Console()
    show(report, console)
    if args.junit:
        junit(report, args.junit)
    if args.json:
        numbers = {"events": report.events, "rows": report.rows, "differences": report.differences}
        args.json.write_text(
            json.dumps(numbers | {"seconds": round(time.monotonic() - began, 1)}) + "\n"
        )
    return 1 if report.differences else 0
