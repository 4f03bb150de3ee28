"""What the contract says of one event: the generator's own reading of the rules.

It shares no code with flows/ (test_the_answer_key_shares_no_code), or a mistake in common code
would prove itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_RECORD_BYTES = 262_144
MAX_QUANTITY, MAX_PRICE, MAX_ITEMS = 100_000, 10_000_000, 10_000
MAX_AMOUNT = 10**12
YEAR_2000_MS = 946_684_800_000
ORDERS = ("PURCHASE", "REFUND")
CARTS = ("ADD_TO_CART", "REMOVE_FROM_CART")
LONGEST = {
    "visitor_id": 128,
    "customer_id": 128,
    "shop_id": 64,
    "order_id": 64,
    "page": 2048,
    "search_query": 256,
    "app_version": 64,
}
LONGEST_OF_ITEM = {"product_id": 64, "category": 64}
TEXTS = (
    "event_id",
    "visitor_id",
    "customer_id",
    "shop_id",
    "page",
    "search_query",
    "order_id",
    "currency",
    "country",
    "app_version",
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

ACCEPTED, DUPLICATE, LATE, REJECTED = "accepted", "duplicate", "late", "rejected"


@dataclass(frozen=True)
class Verdict:
    """What a pipeline must say of one record.

    Shape: `rules` are sorted, without those of the decode step.
    """

    outcome: str
    code: str = ""
    rules: tuple[str, ...] = ()


IS_ACCEPTED = Verdict(ACCEPTED)
IS_DUPLICATE = Verdict(DUPLICATE)
IS_LATE = Verdict(LATE, "LATE", ("EVENT_TIME_LATE",))
IS_CONFLICT = Verdict(REJECTED, "ID_CONFLICT", ("EVENT_ID_CONFLICT",))


def judge_rules(event: Mapping[str, Any], now_ms: int, tolerance_ms: int) -> Verdict | None:
    """Refuse an event that breaks a rule.

    Shape: None when it breaks none.
    Time: `now_ms` stands for the record's Kafka timestamp, `event_time` is in milliseconds.
    """
    broken = tuple(sorted(set(_broken(event, now_ms, tolerance_ms))))
    if not broken:
        return None
    return Verdict(
        REJECTED, "FUTURE_TIME" if broken == ("EVENT_TIME_FUTURE",) else "INVALID", broken
    )


def _broken(event: Mapping[str, Any], now_ms: int, tolerance_ms: int) -> Iterator[str]:
    for part in (_identity, _completeness, _ranges, _texts):
        yield from part(event)
    if event["event_time"] < YEAR_2000_MS:
        yield "EVENT_TIME_TOO_OLD"
    if event["event_time"] > now_ms + tolerance_ms:
        yield "EVENT_TIME_FUTURE"


def _identity(event: Mapping[str, Any]) -> Iterator[str]:
    if event["event_id"] == "":
        yield "EVENT_ID_MISSING"
    elif not _UUID.fullmatch(event["event_id"]):
        yield "EVENT_ID_NOT_UUID"
    if event["visitor_id"] == "":
        yield "VISITOR_ID_MISSING"
    if event["shop_id"] == "":
        yield "SHOP_ID_MISSING"
    if event["event_type"] == "UNKNOWN":
        yield "EVENT_TYPE_UNKNOWN"
    if not re.fullmatch("[A-Z]{2}", event["country"]):
        yield "COUNTRY_SHAPE"
    if event["currency"] and not re.fullmatch("[A-Z]{3}", event["currency"]):
        yield "CURRENCY_SHAPE"


def _completeness(event: Mapping[str, Any]) -> Iterator[str]:
    kind, items = event["event_type"], event["items"]
    if kind in ORDERS and not event["order_id"]:
        yield "ORDER_ID_MISSING"
    if kind in ORDERS and not event["currency"]:
        yield "CURRENCY_MISSING"
    if kind in ORDERS + CARTS and not items:
        yield "ITEMS_MISSING"
    if kind == "SEARCH" and not (event["search_query"] or "").strip():
        yield "SEARCH_QUERY_MISSING"
    if any(item["product_id"] == "" for item in items):
        yield "PRODUCT_ID_MISSING"


def _ranges(event: Mapping[str, Any]) -> Iterator[str]:
    items = event["items"]
    if any(not 1 <= item["quantity"] <= MAX_QUANTITY for item in items):
        yield "QUANTITY_OUT_OF_RANGE"
    if any(not 0 <= item["unit_price_minor"] <= MAX_PRICE for item in items):
        yield "PRICE_OUT_OF_RANGE"
    for name, rule in (
        ("discount_minor", "DISCOUNT"),
        ("tax_minor", "TAX"),
        ("shipping_minor", "SHIPPING"),
    ):
        if (event[name] or 0) < 0:
            yield f"{rule}_NEGATIVE"
    if (event["search_results"] or 0) < 0:
        yield "SEARCH_RESULTS_NEGATIVE"
    total = sum(
        min(max(item["quantity"], 1), MAX_QUANTITY)
        * min(max(item["unit_price_minor"], 0), MAX_PRICE)
        for item in items
    )
    if event["discount_minor"] is not None and event["discount_minor"] > total:
        yield "DISCOUNT_ABOVE_TOTAL"
    if len(items) > MAX_ITEMS:
        yield "TOO_MANY_ITEMS"
    if total > MAX_AMOUNT:
        yield "ORDER_TOTAL_TOO_LARGE"
    if max(event["tax_minor"] or 0, event["shipping_minor"] or 0) > MAX_AMOUNT:
        yield "AMOUNT_TOO_LARGE"


def _texts(event: Mapping[str, Any]) -> Iterator[str]:
    for name, longest in LONGEST.items():
        if len(event[name] or "") > longest:
            yield f"{name.upper()}_TOO_LONG"
    for name, longest in LONGEST_OF_ITEM.items():
        if any(len(item[name]) > longest for item in event["items"]):
            yield f"{name.upper()}_TOO_LONG"
    texts = [event[name] for name in TEXTS]
    texts += [item[name] for item in event["items"] for name in LONGEST_OF_ITEM]
    if any("\0" in (text or "") for text in texts):
        yield "TEXT_HAS_NUL"
