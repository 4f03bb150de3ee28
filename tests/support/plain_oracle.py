"""What must come out, by dicts and loops: the rules once more, sharing nothing with `flows/`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from tests.support.web_events import V1, V2

MINUTE = 60_000
LEAP = 12 * 60 * MINUTE
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


@lru_cache(maxsize=20_000)
def read(value: bytes | None, max_bytes: int) -> dict[str, Any]:
    """Read the event in a raw record, which is not to be changed. Errors: Unreadable."""
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
    event: dict[str, Any] = body.of(schema)
    if body.at != len(body.data):
        raise Unreadable("TRAILING_BYTES")
    return {"app_version": None} | event


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
    """Judge every record; the log is in offset order within each partition."""
    marks: dict[int, int] = {}
    ids: dict[tuple[int, str], tuple[bytes, int, int]] = {}
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
            ids[key] = record.value, time, time + limits.lateness
            verdicts[at] = Verdict("accepted")
        elif known[0] == record.value:
            verdicts[at] = Verdict("duplicate")
        else:
            # a conflict keeps the event known, but not for more than another lateness
            ids[key] = known[0], min(max(known[1], time), known[2]), known[2]
            verdicts[at] = Verdict("rejected", "ID_CONFLICT", ("EVENT_ID_CONFLICT",))
    return verdicts


def minutes(log: Iterable[Stored]) -> dict[tuple[int, int], int]:
    """Give the minute that each record is counted in.

    It is that of its timestamp, or of one minute before the newest so far that is believed.
    """
    newest: dict[int, int] = {}
    doubted: set[int] = set()
    windows = {}
    for r in log:
        before = newest.setdefault(r.partition, r.timestamp)
        # a leap of more than half a day is believed when the next record confirms it
        leaps = r.timestamp > before + LEAP
        is_doubted = leaps and r.partition not in doubted
        if not is_doubted:
            newest[r.partition] = max(before, r.timestamp)
        doubted.discard(r.partition)
        if is_doubted:
            doubted.add(r.partition)
        windows[r.partition, r.offset] = (
            max(min(r.timestamp, newest[r.partition]), newest[r.partition] - MINUTE)
            // MINUTE
            * MINUTE
        )
    return windows


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
    return counts + Counter(
        (at[0], where[at], "EVENT_ID_REPEATED")
        for at, v in verdicts.items()
        if v.outcome == "duplicate"
    )


Key = tuple[Any, ...]
Rows = dict[Key, dict[str, int]]
STEPS = {
    "PAGE_VIEW": "views",
    "ADD_TO_CART": "carts",
    "CHECKOUT": "checkouts",
    "PURCHASE": "purchases",
}


def gold(
    accepted: Iterable[tuple[int, dict[str, Any]]], cap: int = 10_000
) -> dict[str, dict[Key, dict[str, int]]]:
    """Count the rows of every gold table, from (partition, event) in offset order.

    Shape: keys are (window_start in ms, partition, dimensions); measures that are 0 are left out.
    """
    counts = _Counts(cap)
    for partition, event in accepted:
        counts.take(partition, event)
    tables = {
        "traffic_1m": counts.traffic,
        "orders_1m": counts.orders,
        "sales_1m": counts.sales,
        "products_1m": counts.products,
        "searches_1m": counts.searches,
    }
    return {
        name: {k: {m: n for m, n in row.items() if n} for k, row in rows.items()}
        for name, rows in tables.items()
    }


def _no_rows() -> Rows:
    return defaultdict(lambda: defaultdict(int))


@dataclass
class _Counts:
    cap: int
    traffic: Rows = field(default_factory=_no_rows)
    orders: Rows = field(default_factory=_no_rows)
    sales: Rows = field(default_factory=_no_rows)
    products: Rows = field(default_factory=_no_rows)
    searches: Rows = field(default_factory=_no_rows)
    _visitors: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    _queries: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))

    def take(self, partition: int, event: dict[str, Any]) -> None:
        place = event["event_time"] // MINUTE * MINUTE, partition, event["shop_id"]
        kind = event["event_type"]
        self._take_traffic(place, event)
        if kind in ("PURCHASE", "REFUND"):
            self._take_order(place, event)
            self._take_sales(place, event)
        if kind in STEPS:
            self._take_products(place, event)
        if kind == "SEARCH":
            self._take_search(place, event)

    def _take_traffic(self, place: Key, e: dict[str, Any]) -> None:
        key = (*place, e["event_type"], e["channel"], e["device"], e["country"])
        self._visitors[key].add(e["visitor_id"])
        self.traffic[key]["events"] += 1
        self.traffic[key]["visitors"] = len(self._visitors[key])

    def _take_order(self, place: Key, e: dict[str, Any]) -> None:
        row = self.orders[(*place, e["currency"], e["country"], e["channel"], e["device"])]
        total = sum(i["quantity"] * i["unit_price_minor"] for i in e["items"])
        row["events"] += 1
        if e["event_type"] == "REFUND":
            row["refunds"] += 1
            row["refund_minor"] += total
            return
        row["orders"] += 1
        row["units"] += sum(i["quantity"] for i in e["items"])
        row["gross_minor"] += total
        for name in ("discount_minor", "tax_minor", "shipping_minor"):
            row[name] += e[name] or 0

    def _take_sales(self, place: Key, e: dict[str, Any]) -> None:
        refund = e["event_type"] == "REFUND"
        units, amount = ("refund_units", "refund_minor") if refund else ("units", "gross_minor")
        for i in e["items"]:
            row = self.sales[(*place, e["currency"], i["product_id"], i["category"])]
            row["events"] += 1
            row[units] += i["quantity"]
            row[amount] += i["quantity"] * i["unit_price_minor"]

    def _take_products(self, place: Key, e: dict[str, Any]) -> None:
        for i in e["items"]:
            row = self.products[(*place, i["product_id"], i["category"])]
            row["events"] += 1
            row["cart_units"] += i["quantity"] if e["event_type"] == "ADD_TO_CART" else 0
        for product in {(i["product_id"], i["category"]) for i in e["items"]}:
            self.products[(*place, *product)][STEPS[e["event_type"]]] += 1

    def _take_search(self, place: Key, e: dict[str, Any]) -> None:
        query, known = e["search_query"].strip().lower(), self._queries[place]
        if query not in known and len(known) >= self.cap:
            query = "(other)"
        else:
            known.add(query)
        row = self.searches[(*place, query)]
        row["events"] += 1
        row["searches"] += 1
        row["zero_results"] += e["search_results"] == 0
