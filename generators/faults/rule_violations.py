"""One way to break each rule, as data: a change to a copy of a healthy event.

It breaks that rule and no other (test_a_broken_rule_is_the_only_one_broken).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from generators.answer_key.verdicts import (
    LONGEST,
    LONGEST_OF_ITEM,
    MAX_AMOUNT,
    MAX_ITEMS,
    MAX_PRICE,
    MAX_QUANTITY,
    YEAR_2000_MS,
)

Event = dict[str, Any]
Change = Callable[[Event, int], None]
_LINE = {"product_id": "p-0000", "category": "lamps", "quantity": 2, "unit_price_minor": 1999}


def _purchase(event: Event) -> Event:
    event.update(
        event_type="PURCHASE",
        currency=event["currency"] or "EUR",
        order_id=event["order_id"] or "o-1",
    )
    event.update(discount_minor=None, search_query=None, search_results=None)
    event["items"] = [dict(item) for item in event["items"]] or [dict(_LINE)]
    return event


def _search(event: Event) -> Event:
    event.update(
        event_type="SEARCH", search_query="lamp", search_results=3, order_id=None, items=[]
    )
    event.update(discount_minor=None)
    return event


def _put(field: str, *values: Any) -> Change:
    """Set a field of any event to one of the values."""
    return lambda event, roll: event.update({field: values[roll % len(values)]})


def _order(field: str, *values: Any) -> Change:
    """Set a field of a purchase to one of the values."""
    return lambda event, roll: _purchase(event).update({field: values[roll % len(values)]})


def _line(field: str, *values: Any) -> Change:
    """Set a field of a purchase's last line to one of the values."""
    return lambda event, roll: _purchase(event)["items"][-1].update(
        {field: values[roll % len(values)]}
    )


def _items_missing(event: Event, roll: int) -> None:
    _purchase(event).update(
        event_type=("PURCHASE", "REFUND", "ADD_TO_CART", "REMOVE_FROM_CART")[roll % 4], items=[]
    )


def _discount_above_total(event: Event, roll: int) -> None:
    items = _purchase(event)["items"]
    event["discount_minor"] = (
        sum(item["quantity"] * item["unit_price_minor"] for item in items) + 1 + roll % 1000
    )


def _too_many_items(event: Event, roll: int) -> None:
    line = {"product_id": "p", "category": "", "quantity": 1, "unit_price_minor": 1}
    _purchase(event)["items"] = [line] * (MAX_ITEMS + 1)


def _order_total(event: Event, roll: int) -> None:
    most = _LINE | {"quantity": MAX_QUANTITY, "unit_price_minor": MAX_PRICE}
    _purchase(event)["items"] = [most, dict(_LINE)]  # one such line is the limit itself


def _search_results(event: Event, roll: int) -> None:
    _search(event)["search_results"] = -1 - roll % 9


def _search_query(event: Event, roll: int) -> None:
    _search(event)["search_query"] = (None, "", "   ", "\t ")[roll % 4]


def _search_too_long(event: Event, roll: int) -> None:
    _search(event)["search_query"] = "q" * (LONGEST["search_query"] + 1 + roll % 9)


def _nul(event: Event, roll: int) -> None:
    field = ("page", "customer_id", "app_version")[roll % 3]
    event[field] = f"{event[field] or 'x'}\0"


RULES: dict[str, Change] = {
    "EVENT_ID_MISSING": _put("event_id", ""),
    "VISITOR_ID_MISSING": _put("visitor_id", ""),
    "SHOP_ID_MISSING": _put("shop_id", ""),
    "ORDER_ID_MISSING": _order("order_id", None, ""),
    "CURRENCY_MISSING": _order("currency", None, ""),
    "ITEMS_MISSING": _items_missing,
    "SEARCH_QUERY_MISSING": _search_query,
    "PRODUCT_ID_MISSING": _line("product_id", ""),
    "EVENT_ID_NOT_UUID": _put(
        "event_id", "42", "not-a-uuid", "g0000000-0000-4000-8000-000000000000", "null"
    ),
    "EVENT_TYPE_UNKNOWN": _put("event_type", "UNKNOWN"),
    "COUNTRY_SHAPE": _put("country", "", "gb", "GBR", "G8", "GB\n"),
    "CURRENCY_SHAPE": _order("currency", "eur", "EURO", "E1", "€"),
    "QUANTITY_OUT_OF_RANGE": _line("quantity", 0, -1, MAX_QUANTITY + 1, -(2**31)),
    "PRICE_OUT_OF_RANGE": _line("unit_price_minor", -1, MAX_PRICE + 1, -(2**63), 2**63 - 1),
    "DISCOUNT_NEGATIVE": _order("discount_minor", -1, -(2**63)),
    "TAX_NEGATIVE": _order("tax_minor", -1, -(2**63)),
    "SHIPPING_NEGATIVE": _order("shipping_minor", -1, -499),
    "SEARCH_RESULTS_NEGATIVE": _search_results,
    **{
        f"{name.upper()}_TOO_LONG": _put(name, "x" * (longest + 1), "ü" * (longest + 1))
        for name, longest in LONGEST.items()
        if name not in ("search_query", "order_id")
    },
    "ORDER_ID_TOO_LONG": _order("order_id", "o" * (LONGEST["order_id"] + 1)),
    "SEARCH_QUERY_TOO_LONG": _search_too_long,
    **{
        f"{name.upper()}_TOO_LONG": _line(name, "x" * (longest + 1))
        for name, longest in LONGEST_OF_ITEM.items()
    },
    "TEXT_HAS_NUL": _nul,
    "DISCOUNT_ABOVE_TOTAL": _discount_above_total,
    "TOO_MANY_ITEMS": _too_many_items,
    "ORDER_TOTAL_TOO_LARGE": _order_total,
    "AMOUNT_TOO_LARGE": lambda event, roll: _order(
        ("tax_minor", "shipping_minor")[roll % 2], MAX_AMOUNT + 1
    )(event, 0),
    "EVENT_TIME_TOO_OLD": _put("event_time", YEAR_2000_MS - 1, 0, -1),
}


def break_several(event: Event, roll: int) -> None:
    """Break two to four rules at once, each of another field."""
    _order("order_id", None)(event, 0)
    for bit, (rule, change) in enumerate(_TOGETHER.items()):
        if roll >> bit & 1 or rule == "COUNTRY_SHAPE":
            change(event, roll)


_TOGETHER = {
    name: RULES[name] for name in ("COUNTRY_SHAPE", "EVENT_ID_NOT_UUID", "SHOP_ID_MISSING")
}
