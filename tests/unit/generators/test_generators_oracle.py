"""The oracle, by examples worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from generators.answer_key.oracle import Oracle, Rows, SentRecord, Terms, answer
from generators.answer_key.verdicts import (
    IS_ACCEPTED,
    IS_CONFLICT,
    IS_DUPLICATE,
    IS_LATE,
    Verdict,
    judge_rules,
)
from generators.errors import LedgerError

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
TERMS = Terms(lateness_ms=60_000, tolerance_ms=10_000, latest_ms=NOON + 3_600_000, query_cap=2)
TWELVE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(n: int, kind: str = "PAGE_VIEW", after_ms: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"00000000-0000-4000-8000-{n:012x}",
        "event_type": kind,
        "event_time": NOON + after_ms,
        "visitor_id": "v-1",
        "customer_id": None,
        "shop_id": "s",
        "page": "/",
        "channel": "DIRECT",
        "search_query": None,
        "search_results": None,
        "order_id": None,
        "currency": None,
        "discount_minor": None,
        "tax_minor": None,
        "shipping_minor": None,
        "device": "MOBILE",
        "country": "GB",
        "items": [],
        "app_version": None,
        **changes,
    }


def line(product: str, quantity: int, price: int) -> dict[str, Any]:
    return {
        "product_id": product,
        "category": "tea",
        "quantity": quantity,
        "unit_price_minor": price,
    }


def verdicts(*sent: tuple[dict[str, Any], bytes], terms: Terms = TERMS) -> list[Verdict]:
    oracle = Oracle(terms)
    return [oracle.judge(0, what, payload) for what, payload in sent]


def test_late_is_more_than_the_lateness_behind_and_not_a_millisecond_less() -> None:
    assert verdicts(
        (event(1), b"1"),
        (event(2, after_ms=60_000), b"2"),
        (event(3, after_ms=0), b"3"),
        (event(4, after_ms=-1), b"4"),
    ) == [IS_ACCEPTED, IS_ACCEPTED, IS_ACCEPTED, IS_LATE]


def test_the_same_bytes_are_a_duplicate_and_other_bytes_a_conflict() -> None:
    assert verdicts((event(1), b"1"), (event(1), b"1"), (event(1), b"x"), (event(1), b"1")) == [
        IS_ACCEPTED,
        IS_DUPLICATE,
        IS_CONFLICT,
        IS_DUPLICATE,
    ]


def test_a_conflict_keeps_the_id_known() -> None:
    sent = [(event(1), b"1"), (event(1, after_ms=50_000), b"x"), (event(2, after_ms=100_000), b"2")]
    assert verdicts(*sent, (event(1, after_ms=45_000), b"y"))[-1] == IS_CONFLICT
    assert verdicts(sent[0], sent[2], (event(1, after_ms=45_000), b"y"))[-1] == IS_ACCEPTED


def test_a_refused_event_moves_no_watermark() -> None:
    far = event(2, after_ms=3_600_000, country="gb")
    assert [
        verdict.code for verdict in verdicts((event(1), b"1"), (far, b"2"), (event(3), b"3"))
    ] == [
        "",
        "INVALID",
        "",
    ]


def test_an_event_in_the_future_has_a_code_of_its_own() -> None:
    assert judge_rules(event(1, after_ms=1), NOON - 10_000, 10_000) == Verdict(
        "rejected", "FUTURE_TIME", ("EVENT_TIME_FUTURE",)
    )
    assert judge_rules(event(1), NOON - 10_000, 10_000) is None
    both = judge_rules(event(1, after_ms=1, country=""), NOON - 10_000, 10_000)
    assert both == Verdict("rejected", "INVALID", ("COUNTRY_SHAPE", "EVENT_TIME_FUTURE"))


def test_a_ledger_that_disagrees_with_itself_is_loud() -> None:
    oracle = Oracle(TERMS)
    oracle.take(SentRecord(0, 0, event(1), b"1", IS_ACCEPTED))
    with pytest.raises(LedgerError, match="disagrees with itself: partition 0 offset 1"):
        oracle.take(SentRecord(0, 1, event(1), b"1", IS_ACCEPTED))
    with pytest.raises(LedgerError, match="offset 1 after 1"):
        oracle.take(SentRecord(0, 1, event(2), b"2", IS_ACCEPTED))


def rows_of(*events: dict[str, Any]) -> Rows:
    return answer(
        (SentRecord(0, n, what, bytes([n]), IS_ACCEPTED) for n, what in enumerate(events)), TERMS
    )


def test_traffic_counts_events_and_distinct_visitors_a_minute() -> None:
    rows = rows_of(event(1), event(2), event(3, visitor_id="v-2"), event(4, after_ms=60_000))
    key = ("s", "PAGE_VIEW", "DIRECT", "MOBILE", "GB")
    assert rows["traffic_1m"] == {(TWELVE, *key): (3, 2), (TWELVE.replace(minute=1), *key): (1, 1)}


def test_orders_and_sales_add_up_by_currency() -> None:
    order: dict[str, Any] = {"order_id": "o", "currency": "EUR"}
    rows = rows_of(
        event(
            1,
            "PURCHASE",
            **order,
            items=[line("a", 2, 500), line("a", 1, 500), line("b", 1, 100)],
            discount_minor=100,
            tax_minor=30,
            shipping_minor=20,
        ),
        event(2, "REFUND", **order, items=[line("b", 1, 100)], discount_minor=7),
        event(3, "PURCHASE", **(order | {"currency": "GBP"}), items=[line("b", 3, 100)]),
    )
    origin = ("GB", "DIRECT", "MOBILE")
    assert rows["orders_1m"] == {
        (TWELVE, "s", "EUR", *origin): (1, 4, 1600, 100, 30, 20, 1, 100, 1400),
        (TWELVE, "s", "GBP", *origin): (1, 3, 300, 0, 0, 0, 0, 0, 300),
    }
    assert rows["sales_1m"] == {
        (TWELVE, "s", "EUR", "a", "tea"): (3, 1500, 0, 0),
        (TWELVE, "s", "EUR", "b", "tea"): (1, 100, 1, 100),
        (TWELVE, "s", "GBP", "b", "tea"): (3, 300, 0, 0),
    }
    assert rows["products_1m"] == {
        (TWELVE, "s", "a", "tea"): (0, 0, 0, 0, 1),
        (TWELVE, "s", "b", "tea"): (0, 0, 0, 0, 2),
    }


def test_products_count_an_event_once_a_product() -> None:
    lines = [line("a", 2, 1), line("a", 3, 1), line("b", 1, 1)]
    rows = rows_of(
        event(1, items=lines),
        event(2, "ADD_TO_CART", items=lines),
        event(3, "CHECKOUT", items=lines),
        event(4, "REMOVE_FROM_CART", items=lines),
    )
    assert rows["products_1m"] == {
        (TWELVE, "s", "a", "tea"): (1, 1, 5, 1, 0),
        (TWELVE, "s", "b", "tea"): (1, 1, 1, 1, 0),
    }


def test_queries_past_the_cap_are_other_first_come_first_kept() -> None:
    def search(n: int, query: str, results: int = 1) -> dict[str, Any]:
        return event(n, "SEARCH", search_query=query, search_results=results)

    rows = rows_of(
        search(1, " Lamp"),
        search(2, "tea"),
        search(3, "cup", 0),
        search(4, "LAMP ", 0),
        search(5, "rug"),
    )
    assert rows["searches_1m"] == {
        (TWELVE, "s", "lamp"): (2, 1),
        (TWELVE, "s", "tea"): (1, 0),
        (TWELVE, "s", "(other)"): (2, 1),
    }
