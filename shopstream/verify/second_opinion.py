"""A second opinion on a drained pipeline: count everything again from its topics, and compare.

    python -m shopstream.verify.second_opinion [--raw TOPIC] [--clean TOPIC] [--dead TOPIC]

with KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL set. Plain loops, and no code of `flows/` or
`generators/`: only confluent-kafka, fastavro, psycopg and the schemas of `avro/`
(test_the_recount_shares_no_code). It holds that

1. every record of the raw topic has exactly one outcome: accepted, a dead letter, or a duplicate of
   an accepted record with the same bytes;
2. an accepted event says what plain fastavro reads from the raw bytes, and a dead letter keeps
   those bytes;
3. the views of gold have the rows and the numbers of the accepted events, and no others;
4. `quality.outcomes_1m` adds up to the outcomes of the topics, code by code.

Synthetic rows (partition -1) are nobody's events: the session hides them.
Exit code: 0 when all agree, 1 with the first differences of each kind, 2 when it cannot tell.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro.schema import fingerprint, to_parsing_canonical_form

AVRO = Path(__file__).resolve().parents[2] / "avro"
SHOWN = 8
MOST_BYTES = 1_048_576
ANSWER_SECONDS = 20.0
POLL_SECONDS = 0.1  # a poll that is not full waits for all of it

Event = dict[str, Any]
Place = tuple[int, int]
"""Partition and offset of a record of the raw topic."""
Key = tuple[Any, ...]
Cells = dict[Key, list[int]]
"""Rows of a view: key columns -> measures, in the order of VIEWS."""


class CannotTell(Exception):
    """There is nothing to compare, or it cannot be read."""


@dataclass(frozen=True)
class Topics:
    """Names of the topics."""

    raw: str = "raw.web"
    clean: str = "clean.web"
    dead: str = "dead.letters"


@dataclass
class Report:
    """What was compared, and where the two opinions differ."""

    outcomes: Counter[str] = field(default_factory=Counter)
    cells: int = 0
    differences: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def __str__(self) -> str:
        lines = [f"outcomes: {dict(sorted(self.outcomes.items()))}"]
        for kind, cases in self.differences.items():
            lines.append(f"DIFFERENT {kind}: {len(cases)}")
            lines += [f"    {case}" for case in cases[:SHOWN]]
        total = sum(map(len, self.differences.values()))
        lines.append(
            f"recount: {self.outcomes.total()} records, {self.cells} cells, {total} differences"
        )
        return "\n".join(lines)


# records


class Schemas:
    """The schemas that a record can be written with, by the bytes that it begins with."""

    def __init__(self, folder: Path = AVRO) -> None:
        self._by_header: dict[bytes, Any] = {}
        for path in folder.rglob("*.avsc"):
            raw = json.loads(path.read_text())
            mark = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
            self._by_header[b"\xc3\x01" + bytes.fromhex(mark)] = _parsed(raw)
        for number, name in json.loads((folder / "confluent_ids.json").read_text()).items():
            header = b"\x00" + int(number).to_bytes(4, "big")
            self._by_header[header] = _parsed(json.loads((folder / name).read_text()))

    def read(self, value: bytes | None) -> Event | None:
        """Read a record; None for what a plain reader cannot read to its last byte."""
        for header in (value[:10], value[:5]) if value else ():
            if value and (schema := self._by_header.get(header)) is not None:
                body = io.BytesIO(value[len(header) :])
                try:
                    event = fastavro.schemaless_reader(body, schema, None)
                except Exception:  # fastavro raises whatever its bytes made it stumble over
                    return None
                complete = body.tell() == len(value) - len(header)
                return event if complete and isinstance(event, dict) else None
        return None


def _parsed(raw: Any) -> Any:
    return fastavro.parse_schema(raw, named_schemas={})


class Record(NamedTuple):
    """A record of a topic."""

    partition: int
    offset: int
    value: bytes | None


def records(bootstrap: str, topic: str) -> Iterator[Record]:
    """Read a topic between the watermarks that it has now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "recount",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        ends = _assign(consumer, topic)
        while ends:
            for message in consumer.consume(10_000, POLL_SECONDS):
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if message.error() is None:
                    yield Record(partition, offset, message.value())
                    offset += 1
                # the end of a partition is known by its last record, or by what Kafka says of it:
                # the offsets before it can be marks of transactions
                if offset >= ends.get(partition, offset + 1):
                    del ends[partition]
    finally:
        consumer.close()


def _assign(consumer: Consumer, topic: str) -> dict[int, int]:
    """Begin to read; gives the ends of the partitions that have records."""
    metadata = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
    if metadata.error is not None:
        raise CannotTell(f"topic {topic}: {metadata.error}")
    ends, starts = {}, []
    for partition in metadata.partitions:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=ANSWER_SECONDS
        )
        if low < high:
            ends[partition] = high
            starts.append(TopicPartition(topic, partition, low))
    consumer.assign(starts)
    return ends


# outcomes


Log = dict[tuple[int, int, int], Event]
"""Incarnation of the raw topic, partition and offset of a raw record -> what became of it."""


def accepted_events(bootstrap: str, topic: str, schemas: Schemas, report: Report) -> Log:
    """Read the accepted events by the place of their raw record; a repeated one counts once."""
    events: Log = {}
    for record in records(bootstrap, topic):
        read = schemas.read(record.value)
        if read is None:
            report.differences["unreadable clean records"].append(record)
            continue
        for event in read.get("events", [read]):  # one event per record, or a batch of them
            events.setdefault(_identity(event), event)
    return events


def _identity(record: Event) -> tuple[int, int, int]:
    incarnation = record.get("source_incarnation", 0)
    return incarnation, record["source_partition"], record["source_offset"]


def of_the_log_that_is_there(events: Log, letters: Log) -> tuple[dict[Place, Event], ...]:
    """Leave out what came of an older log, whose raw records are gone.

    That is a topic before it was made anew, or an end that was cut off: others have the offsets.
    """
    newest: dict[int, int] = {}
    for incarnation, partition, _ in (*events, *letters):
        newest[partition] = incarnation  # in the order of the topics, so the last one stays
    begins: dict[int, int] = {}
    for incarnation, partition, offset in (*events, *letters):
        if incarnation == newest[partition]:
            begins[partition] = min(offset, begins.get(partition, offset))
    return tuple(
        {
            (partition, offset): record
            for (incarnation, partition, offset), record in log.items()
            if incarnation == newest[partition] or offset < begins[partition]
        }
        for log in (events, letters)
    )


def dead_letters(bootstrap: str, topics: Topics, schemas: Schemas, report: Report) -> Log:
    """Read the dead letters of the raw topic by the place of their record."""
    letters: Log = {}
    for record in records(bootstrap, topics.dead):
        letter = schemas.read(record.value)
        if letter is None:
            report.differences["unreadable dead letters"].append(record)
        elif letter["source_topic"] == topics.raw:
            letters.setdefault(_identity(letter), letter)
    return letters


@dataclass
class Judgement:
    """Find the one outcome of each raw record, in the order of its partition."""

    schemas: Schemas
    accepted: dict[Place, Event]
    dead: dict[Place, Event]
    report: Report
    _accepted_bytes: dict[tuple[int, bytes | None], Place] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Take the next record."""
        place = record.partition, record.offset
        event, letter = self.accepted.get(place), self.dead.get(place)
        if event is not None and letter is not None:
            self.report.differences["both accepted and refused"].append(place)
        if event is not None:
            self._accept(place, record, event)
        elif letter is not None:
            self.report.outcomes[letter["code"]] += 1
            # of a very large record the letter keeps the beginning
            if letter["payload"] != (record.value and record.value[:MOST_BYTES]):
                self.report.differences["dead letter with other bytes"].append(place)
        elif (record.partition, record.value) in self._accepted_bytes:
            self.report.outcomes["duplicate"] += 1
        else:
            self.report.differences["no outcome"].append(place)

    def _accept(self, place: Place, record: Record, event: Event) -> None:
        self.report.outcomes["accepted"] += 1
        first = self._accepted_bytes.setdefault((record.partition, record.value), place)
        if first != place:
            self.report.differences["accepted twice"].append((first, place))
        read = self.schemas.read(record.value)
        changed = (
            ["unreadable"]
            if read is None
            else [name for name in read if name in event and event[name] != read[name]]
        )
        if changed:
            self.report.differences["changed on the way"].append((place, changed))


# numbers

VIEWS = {
    "traffic_1m": (
        ("window_start", "shop_id", "event_type", "channel", "device", "country"),
        ("events", "visitors"),
    ),
    "orders_1m": (
        ("window_start", "shop_id", "currency", "country", "channel", "device"),
        (
            "orders",
            "units",
            "gross_minor",
            "discount_minor",
            "tax_minor",
            "shipping_minor",
            "refunds",
            "refund_minor",
            "net_minor",
        ),
    ),
    "sales_1m": (
        ("window_start", "shop_id", "currency", "product_id", "category"),
        ("units", "gross_minor", "refund_units", "refund_minor"),
    ),
    "products_1m": (
        ("window_start", "shop_id", "product_id", "category"),
        ("views", "carts", "cart_units", "checkouts", "purchases"),
    ),
    "searches_1m": (("window_start", "shop_id", "query"), ("searches", "zero_results")),
}
"""View of gold -> its key and its measures."""

OTHER = "(other)"
"""Where searches are counted whose words were too many for a window."""


def _zeros(count: int) -> list[int]:
    return [0] * count


class Recount:
    """The rows that the views of gold should have, one event after the other."""

    def __init__(self) -> None:
        self.rows: dict[str, Cells] = {
            view: defaultdict(partial(_zeros, len(measures)))
            for view, (_, measures) in VIEWS.items()
        }
        self._visitors: dict[Key, set[str]] = defaultdict(set)

    def take(self, event: Event) -> None:
        """Count an accepted event."""
        minute = event["event_time"].astimezone(UTC).replace(second=0, microsecond=0)
        self._traffic(minute, event)
        self._products(minute, event)
        if event["event_type"] in ("PURCHASE", "REFUND"):
            self._orders(minute, event)
            self._sales(minute, event)
        if event["event_type"] == "SEARCH":
            query = event["search_query"].strip().lower()
            nothing = int(event["search_results"] == 0)
            self._add("searches_1m", (minute, event["shop_id"], query), 1, nothing)

    def _add(self, view: str, key: Key, *measures: int) -> None:
        row = self.rows[view][key]
        for i, measure in enumerate(measures):
            row[i] += measure

    def _traffic(self, minute: datetime, event: Event) -> None:
        names = ("shop_id", "event_type", "channel", "device", "country")
        key = (minute, *(event[name] for name in names))
        self._visitors[key].add(event["visitor_id"])
        self.rows["traffic_1m"][key][0] += 1
        self.rows["traffic_1m"][key][1] = len(self._visitors[key])

    def _orders(self, minute: datetime, event: Event) -> None:
        names = ("shop_id", "currency", "country", "channel", "device")
        key = (minute, *(event[name] for name in names))
        units = sum(item["quantity"] for item in event["items"])
        total = sum(item["quantity"] * item["unit_price_minor"] for item in event["items"])
        if event["event_type"] == "REFUND":
            self._add("orders_1m", key, 0, 0, 0, 0, 0, 0, 1, total, -total)
            return
        discount, tax, shipping = (
            event[name] or 0 for name in ("discount_minor", "tax_minor", "shipping_minor")
        )
        net = total - discount
        self._add("orders_1m", key, 1, units, total, discount, tax, shipping, 0, 0, net)

    def _sales(self, minute: datetime, event: Event) -> None:
        for item in event["items"]:
            key = minute, event["shop_id"], event["currency"], item["product_id"], item["category"]
            units, amount = item["quantity"], item["quantity"] * item["unit_price_minor"]
            refund = event["event_type"] == "REFUND"
            self._add("sales_1m", key, *((0, 0, units, amount) if refund else (units, amount)))

    def _products(self, minute: datetime, event: Event) -> None:
        steps = {"PAGE_VIEW": 0, "ADD_TO_CART": 1, "CHECKOUT": 3, "PURCHASE": 4}
        step = steps.get(event["event_type"])
        if step is None:
            return
        for product in {(item["product_id"], item["category"]) for item in event["items"]}:
            self.rows["products_1m"][(minute, event["shop_id"], *product)][step] += 1
        if event["event_type"] == "ADD_TO_CART":
            for item in event["items"]:
                key = minute, event["shop_id"], item["product_id"], item["category"]
                self.rows["products_1m"][key][2] += item["quantity"]


def compare_gold(db: psycopg.Connection[Any], events: Iterable[Event], report: Report) -> None:
    """Hold each cell of each view against the recount of the accepted events."""
    expected = Recount()
    for event in events:
        expected.take(event)
    for view, (key, measures) in VIEWS.items():
        statement = f"SELECT {', '.join((*key, *measures))} FROM gold.{view}"
        stored: Cells = {
            row[: len(key)]: [int(cell) for cell in row[len(key) :]]
            for row in db.execute(statement.encode())
        }
        rows = expected.rows[view]
        if view == "searches_1m" and any(words == OTHER for _, _, words in stored):
            stored, rows = _without_words(stored), _without_words(rows)
        report.cells += len(rows) * len(measures)
        for row in rows.keys() | stored.keys():
            if rows.get(row) != stored.get(row):
                report.differences[f"gold.{view}"].append(
                    (row, "expected", rows.get(row), "stored", stored.get(row))
                )


def _without_words(rows: Cells) -> Cells:
    """Add searches up per window and shop: which words became others depends on their order."""
    totals: Cells = defaultdict(lambda: [0, 0])
    for (minute, shop, _), measures in rows.items():
        total = totals[minute, shop]
        total[:] = [a + b for a, b in zip(total, measures, strict=True)]
    return totals


def compare_outcomes(
    db: psycopg.Connection[Any], topic: str, report: Report, unknown: tuple[str, ...]
) -> None:
    """Hold what cleaning counted against the outcomes of the topics, but for `unknown` ones."""
    stored = Counter(
        dict(
            db.execute(
                "SELECT CASE WHEN outcome IN ('accepted', 'duplicate') THEN outcome ELSE code END,"
                " sum(records)::bigint FROM quality.outcomes_1m"
                " WHERE flow = 'clean' AND source_topic = %s GROUP BY 1",
                (topic,),
            ).fetchall()
        )
    )
    for outcome in stored.keys() | report.outcomes.keys():
        if outcome not in unknown and stored[outcome] != report.outcomes[outcome]:
            report.differences["quality.outcomes_1m"].append(
                (outcome, "expected", report.outcomes[outcome], "stored", stored[outcome])
            )


def compare(bootstrap: str, database_url: str, topics: Topics) -> Report:
    """Count a drained pipeline again. Errors: CannotTell when there is nothing to compare."""
    schemas, report = Schemas(), Report()
    accepted = accepted_events(bootstrap, topics.clean, schemas, report)
    dead = dead_letters(bootstrap, topics, schemas, report)
    events, letters = of_the_log_that_is_there(accepted, dead)
    judgement = Judgement(schemas, events, letters, report)
    empty = True
    for record in records(bootstrap, topics.raw):
        empty = False
        judgement.take(record)
    if empty:
        raise CannotTell(f"topic {topics.raw} is empty")
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC") as db:
        db.execute("SET shopstream.synthetic = off")
        compare_gold(db, accepted.values(), report)
        # what is left of an older log does not tell its duplicates
        report.outcomes["accepted"] += len(accepted) - len(events)
        report.outcomes.update(letter["code"] for letter in dead.values())
        report.outcomes.subtract(letter["code"] for letter in letters.values())
        is_whole = len(accepted) == len(events) and len(dead) == len(letters)
        compare_outcomes(db, topics.raw, report, () if is_whole else ("duplicate",))
    return report


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m shopstream.verify.second_opinion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in vars(Topics()).items():
        parser.add_argument(f"--{name}", default=default, metavar="TOPIC")
    topics = Topics(**vars(parser.parse_args(arguments)))
    try:
        report = compare(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["DATABASE_URL"], topics)
    except KeyError as error:
        print(f"recount: {error.args[0]} is not set", file=sys.stderr)
        return 2
    except (CannotTell, KafkaException, psycopg.Error) as error:
        print(f"recount: {error}", file=sys.stderr)
        return 2
    print(report)
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
