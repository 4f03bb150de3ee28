"""What must come out, by dicts and loops: the rules of the game once more, sharing nothing with
`flows/`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.web_events import V1, V2

MINUTE = 60_000
YEAR_2000 = 946_684_800_000
WRITERS = {
    V1.header: V1.raw,
    V2.header: V2.raw,
    b"\x00\x00\x00\x00\x01": V1.raw,
    b"\x00\x00\x00\x00\x02": V2.raw,
}


class Stored(NamedTuple):
    """A record of the raw topic."""

    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None


class Verdict(NamedTuple):
    outcome: str
    code: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    lateness: int = 60_000
    tolerance: int = 10_000
    max_bytes: int = 262_144


class Unreadable(Exception):
    """Its text is the code."""


class Body:
    """The bytes of an Avro body, read by the specification's own words."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count < 0:
            raise Unreadable("NOT_AVRO")
        if self.at + count > len(self.data):
            raise Unreadable("TRUNCATED")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise Unreadable("NOT_AVRO")
        value &= (1 << 64) - 1  # what a tenth byte says beyond 64 bits is lost in every reader
        return (value >> 1) ^ -(value & 1)

    def int(self) -> int:
        value = self.long()
        if not -(2**31) <= value < 2**31:
            raise Unreadable("NOT_AVRO")
        return value

    def text(self) -> str:
        try:
            return self.take(self.long()).decode("utf-8")
        except UnicodeDecodeError:
            raise Unreadable("BAD_UTF8") from None

    def of(self, kind: Any) -> Any:
        if isinstance(kind, list):
            return self.of(self.choice(kind))
        if kind == "null":
            return None
        if isinstance(kind, str):
            return {"string": self.text, "long": self.long, "int": self.int}[kind]()
        if kind["type"] == "enum":
            return self.choice(kind["symbols"])
        if kind["type"] == "array":
            return list(self.items(kind["items"]))
        if kind["type"] == "record":
            return {f["name"]: self.of(f["type"]) for f in kind["fields"]}
        return self.of(kind["type"])

    def choice(self, options: list[Any]) -> Any:
        index = self.long()
        if not 0 <= index < len(options):
            raise Unreadable("NOT_AVRO")
        return options[index]

    def items(self, kind: Any) -> Iterable[Any]:
        while (count := self.long()) != 0:
            if count < 0:
                self.long()
            for _ in range(abs(count)):
                yield self.of(kind)


def read(value: bytes | None, max_bytes: int) -> dict[str, Any]:
    """The event in a raw record. Errors: Unreadable."""
    if not value:
        raise Unreadable("EMPTY")
    if len(value) > max_bytes:
        raise Unreadable("TOO_LARGE")
    size = {0xC3: 10, 0x00: 5}.get(value[0])
    if size is None or (value[0] == 0xC3 and value[1:2] not in (b"", b"\x01")):
        raise Unreadable("BAD_MAGIC")
    if len(value) < size:
        raise Unreadable("TRUNCATED")
    schema = WRITERS.get(value[:size])
    if schema is None:
        raise Unreadable("UNKNOWN_SCHEMA")
    body = Body(value[size:])
    found = body.of(schema)
    if body.at != len(body.data):
        raise Unreadable("TRAILING_BYTES")
    return {"app_version": None} | found


def total_of(event: dict[str, Any]) -> int:
    return sum(
        min(max(i["quantity"], 0), 100_000) * min(max(i["unit_price_minor"], 0), 10_000_000)
        for i in event["items"]
    )


def broken_rules(event: dict[str, Any], timestamp: int, tolerance: int) -> set[str]:
    e, items, kind = event, event["items"], event["event_type"]
    ordered = kind in ("PURCHASE", "REFUND")
    texts = [v for v in e.values() if isinstance(v, str)] + [
        i[f] for i in items for f in ("product_id", "category")
    ]
    total = total_of(e)
    limits = {
        "visitor_id": 128,
        "customer_id": 128,
        "shop_id": 64,
        "order_id": 64,
        "page": 2048,
        "search_query": 256,
        "app_version": 64,
    }
    checks = {
        "EVENT_ID_MISSING": e["event_id"] == "",
        "VISITOR_ID_MISSING": e["visitor_id"] == "",
        "SHOP_ID_MISSING": e["shop_id"] == "",
        "ORDER_ID_MISSING": ordered and not e["order_id"],
        "CURRENCY_MISSING": ordered and not e["currency"],
        "ITEMS_MISSING": (ordered or kind in ("ADD_TO_CART", "REMOVE_FROM_CART")) and not items,
        "SEARCH_QUERY_MISSING": kind == "SEARCH" and not (e["search_query"] or "").strip(),
        "PRODUCT_ID_MISSING": any(i["product_id"] == "" for i in items),
        "EVENT_ID_NOT_UUID": e["event_id"] != ""
        and not re.fullmatch("[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", e["event_id"]),
        "EVENT_TYPE_UNKNOWN": kind == "UNKNOWN",
        "COUNTRY_SHAPE": not re.fullmatch("[A-Z]{2}", e["country"]),
        "CURRENCY_SHAPE": bool(e["currency"]) and not re.fullmatch("[A-Z]{3}", e["currency"]),
        "QUANTITY_OUT_OF_RANGE": any(not 1 <= i["quantity"] <= 100_000 for i in items),
        "PRICE_OUT_OF_RANGE": any(not 0 <= i["unit_price_minor"] <= 10_000_000 for i in items),
        "DISCOUNT_NEGATIVE": (e["discount_minor"] or 0) < 0,
        "TAX_NEGATIVE": (e["tax_minor"] or 0) < 0,
        "SHIPPING_NEGATIVE": (e["shipping_minor"] or 0) < 0,
        "SEARCH_RESULTS_NEGATIVE": (e["search_results"] or 0) < 0,
        "PRODUCT_ID_TOO_LONG": any(len(i["product_id"]) > 64 for i in items),
        "CATEGORY_TOO_LONG": any(len(i["category"]) > 64 for i in items),
        "TEXT_HAS_NUL": any("\0" in text for text in texts),
        "DISCOUNT_ABOVE_TOTAL": e["discount_minor"] is not None and e["discount_minor"] > total,
        "TOO_MANY_ITEMS": len(items) > 10_000,
        "ORDER_TOTAL_TOO_LARGE": total > 10**12,
        "AMOUNT_TOO_LARGE": max(e["tax_minor"] or 0, e["shipping_minor"] or 0) > 10**12,
        "EVENT_TIME_TOO_OLD": e["event_time"] < YEAR_2000,
        "EVENT_TIME_FUTURE": e["event_time"] > timestamp + tolerance,
    } | {f"{field.upper()}_TOO_LONG": len(e[field] or "") > most for field, most in limits.items()}
    return {rule for rule, broken in checks.items() if broken}


def judge(log: Iterable[Stored], limits: Limits) -> dict[tuple[int, int], Verdict]:
    """The verdict over every record; the log in offset order within each partition."""
    marks: dict[int, int] = {}
    ids: dict[tuple[int, str], tuple[bytes, int]] = {}
    verdicts = {}
    for record in log:
        at = record.partition, record.offset
        try:
            event = read(record.value, limits.max_bytes)
        except Unreadable as error:
            code = str(error)
            rule = "RECORD_TOO_LARGE" if code == "TOO_LARGE" else "RECORD_UNREADABLE"
            verdicts[at] = Verdict("rejected", code, (rule,))
            continue
        if broken := broken_rules(event, record.timestamp, limits.tolerance):
            code = "FUTURE_TIME" if broken == {"EVENT_TIME_FUTURE"} else "INVALID"
            verdicts[at] = Verdict("rejected", code, tuple(sorted(broken)))
            continue
        time = event["event_time"]
        horizon = marks.get(record.partition, time) - limits.lateness
        marks[record.partition] = max(marks.get(record.partition, time), time)
        if time < horizon:
            verdicts[at] = Verdict("late", "LATE", ("EVENT_TIME_LATE",))
            continue
        key = record.partition, event["event_id"]
        known = ids.get(key)
        assert record.value is not None
        if known is None or known[1] < horizon:
            ids[key] = record.value, time
            verdicts[at] = Verdict("accepted")
        elif known[0] == record.value:
            verdicts[at] = Verdict("duplicate")
        else:
            ids[key] = known[0], max(known[1], time)
            verdicts[at] = Verdict("rejected", "ID_CONFLICT", ("EVENT_ID_CONFLICT",))
    return verdicts


def minutes(log: Iterable[Stored]) -> dict[tuple[int, int], int]:
    """In which minute each record is counted: that of its timestamp, or of one minute before the
    newest so far."""
    newest: dict[int, int] = {}
    found = {}
    for r in log:
        newest[r.partition] = max(newest.get(r.partition, r.timestamp), r.timestamp)
        found[r.partition, r.offset] = (
            max(r.timestamp, newest[r.partition] - MINUTE) // MINUTE * MINUTE
        )
    return found


def outcome_tallies(
    log: list[Stored], verdicts: dict[tuple[int, int], Verdict]
) -> Counter[tuple[int, int, str, str]]:
    where = minutes(log)
    return Counter((at[0], where[at], v.outcome, v.code) for at, v in verdicts.items())


def broken_tallies(
    log: list[Stored], verdicts: dict[tuple[int, int], Verdict]
) -> Counter[tuple[int, int, str]]:
    where = minutes(log)
    counts = Counter((at[0], where[at], rule) for at, v in verdicts.items() for rule in v.rules)
    newest: dict[int, int] = {}
    for p, offset in sorted(where):
        if p in newest:  # offsets without a record count in the minute of the record before them
            counts[p, where[p, newest[p]], "RECORD_MISSING"] += offset - newest[p] - 1
        newest[p] = offset
    return counts + Counter(
        (at[0], where[at], "EVENT_ID_REPEATED")
        for at, v in verdicts.items()
        if v.outcome == "duplicate"
    )


def gold(
    accepted: Iterable[tuple[int, dict[str, Any]]], cap: int = 10_000
) -> dict[str, dict[tuple[Any, ...], dict[str, int]]]:
    """The rows of every gold table by (window_start in ms, partition, dimensions), from (partition,
    event) in offset order."""
    rows: dict[str, dict[tuple[Any, ...], dict[str, int]]] = {
        name: defaultdict(lambda: defaultdict(int))
        for name in ("traffic_1m", "orders_1m", "sales_1m", "products_1m", "searches_1m")
    }
    visitors: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    queries: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for partition, e in accepted:
        window, kind = e["event_time"] // MINUTE * MINUTE, e["event_type"]
        place = window, partition, e["shop_id"]
        key = (*place, kind, e["channel"], e["device"], e["country"])
        visitors[key].add(e["visitor_id"])
        rows["traffic_1m"][key] |= {
            "events": rows["traffic_1m"][key]["events"] + 1,
            "visitors": len(visitors[key]),
        }
        total = sum(i["quantity"] * i["unit_price_minor"] for i in e["items"])
        if kind in ("PURCHASE", "REFUND"):
            row = rows["orders_1m"][
                (*place, e["currency"], e["country"], e["channel"], e["device"])
            ]
            row["events"] += 1
            if kind == "PURCHASE":
                row["orders"] += 1
                row["units"] += sum(i["quantity"] for i in e["items"])
                row["gross_minor"] += total
                for name in ("discount_minor", "tax_minor", "shipping_minor"):
                    row[name] += e[name] or 0
            else:
                row["refunds"] += 1
                row["refund_minor"] += total
            for i in e["items"]:
                row = rows["sales_1m"][(*place, e["currency"], i["product_id"], i["category"])]
                row["events"] += 1
                units, money = (
                    ("units", "gross_minor")
                    if kind == "PURCHASE"
                    else ("refund_units", "refund_minor")
                )
                row[units] += i["quantity"]
                row[money] += i["quantity"] * i["unit_price_minor"]
        column = {
            "PAGE_VIEW": "views",
            "ADD_TO_CART": "carts",
            "CHECKOUT": "checkouts",
            "PURCHASE": "purchases",
        }.get(kind)
        if column:
            for i in e["items"]:
                row = rows["products_1m"][(*place, i["product_id"], i["category"])]
                row["events"] += 1
                row["cart_units"] += i["quantity"] if kind == "ADD_TO_CART" else 0
            for pair in {(i["product_id"], i["category"]) for i in e["items"]}:
                rows["products_1m"][(*place, *pair)][column] += 1
        if kind == "SEARCH":
            query = e["search_query"].strip().lower()
            if query not in queries[place]:
                if len(queries[place]) < cap:
                    queries[place].add(query)
                else:
                    query = "(other)"
            row = rows["searches_1m"][(*place, query)]
            row["events"] += 1
            row["searches"] += 1
            row["zero_results"] += e["search_results"] == 0
    return {
        table: {k: {m: n for m, n in row.items() if n} for k, row in found.items()}
        for table, found in rows.items()
    }
