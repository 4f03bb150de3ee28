"""The answer key's arithmetic: slow, simple, plain loops over what was sent.

It shares no code with flows/ (test_the_answer_key_shares_no_code). It judges in offset order what
the generator judged when it sent, and both must agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from generators.answer_key.verdicts import (
    ACCEPTED,
    IS_ACCEPTED,
    IS_CONFLICT,
    IS_DUPLICATE,
    IS_LATE,
    Verdict,
    judge_rules,
)
from generators.errors import LedgerError

OTHER = "(other)"
VIEWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
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
Rows = dict[str, dict[tuple[Any, ...], tuple[int, ...]]]
# event type -> column of products_1m; an event counts once per product, however often it lists it
_PRODUCT_COLUMN = {"PAGE_VIEW": 0, "ADD_TO_CART": 1, "CHECKOUT": 3, "PURCHASE": 4}


@dataclass(frozen=True)
class SentRecord:
    """A record on the topic, with the verdict that it was sent with.

    Shape: `event` is None when nobody can read the bytes.
    """

    partition: int
    offset: int
    event: dict[str, Any] | None
    payload_hash: bytes | None
    expected: Verdict


@dataclass(frozen=True)
class Terms:
    """What verdicts and rows depend on.

    Time: `latest_ms` is what no clock passes in the run.
    """

    lateness_ms: int
    tolerance_ms: int
    latest_ms: int
    query_cap: int


class Oracle:
    """Judge records and add up the accepted ones.

    Shape: records of one partition come in offset order; partitions may alternate.
    State: everything that was seen; nothing is dropped, ids only expire.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._last: dict[int, int] = {}
        self._watermark: dict[int, int] = {}
        self._known: dict[tuple[int, str], tuple[bytes | None, int, int]] = {}
        self._traffic: Counter[tuple[Any, ...]] = Counter()
        self._visitors: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        self._orders: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 8)
        self._sales: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 4)
        self._products: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 5)
        self._searches: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 2)
        self._queries: dict[tuple[Any, ...], set[str]] = defaultdict(set)

    def take(self, sent: SentRecord) -> Verdict:
        """Judge the next record of its partition.

        Errors: LedgerError when the generator expected another verdict.
        """
        if sent.offset <= self._last.get(sent.partition, -1):
            raise LedgerError(
                f"partition {sent.partition}: offset {sent.offset} after"
                f" {self._last[sent.partition]}"
            )
        self._last[sent.partition] = sent.offset
        verdict = (
            sent.expected
            if sent.event is None
            else self.judge(sent.partition, sent.event, sent.payload_hash)
        )
        if verdict != sent.expected:
            raise LedgerError(
                f"the ledger disagrees with itself: partition {sent.partition} offset {sent.offset}"
                f" was expected to be {sent.expected}, and is {verdict}"
            )
        if verdict.outcome == ACCEPTED and sent.event is not None:
            self.add(sent.partition, sent.event)
        return verdict

    def judge(self, partition: int, event: dict[str, Any], payload_hash: bytes | None) -> Verdict:
        """Give the verdict of an event by the rules, then lateness, then its id."""
        refused = judge_rules(event, self._terms.latest_ms, self._terms.tolerance_ms)
        if refused is not None:
            return refused
        time_ms = event["event_time"]
        watermark = self._watermark.get(partition, time_ms)
        self._watermark[partition] = max(watermark, time_ms)
        oldest = watermark - self._terms.lateness_ms
        if time_ms < oldest:
            return IS_LATE
        known = self._known.get((partition, event["event_id"]))
        if known is None or known[1] < oldest:
            until = time_ms + self._terms.lateness_ms
            self._known[partition, event["event_id"]] = (payload_hash, time_ms, until)
            return IS_ACCEPTED
        if known[0] == payload_hash:
            return IS_DUPLICATE
        # a conflict keeps the event known, but not for more than another lateness
        newest = min(max(known[1], time_ms), known[2])
        self._known[partition, event["event_id"]] = (known[0], newest, known[2])
        return IS_CONFLICT

    def add(self, partition: int, event: dict[str, Any]) -> None:
        """Count an accepted event in every view."""
        window = datetime.fromtimestamp(event["event_time"] // 60_000 * 60, UTC)
        shop_window = (window, event["shop_id"])
        kind = event["event_type"]
        traffic = (*shop_window, kind, event["channel"], event["device"], event["country"])
        self._traffic[traffic] += 1
        self._visitors[traffic].add(event["visitor_id"])
        if kind in ("PURCHASE", "REFUND"):
            self._add_order(shop_window, event)
        self._add_products(shop_window, event)
        if kind == "SEARCH":
            self._add_search(partition, shop_window, event)

    def _add_order(self, shop_window: tuple[Any, ...], event: dict[str, Any]) -> None:
        total = sum(item["quantity"] * item["unit_price_minor"] for item in event["items"])
        bought = event["event_type"] == "PURCHASE"
        order = self._orders[
            *shop_window, event["currency"], event["country"], event["channel"], event["device"]
        ]
        if bought:
            order[0] += 1
            order[1] += sum(item["quantity"] for item in event["items"])
            order[2] += total
            order[3] += event["discount_minor"] or 0
            order[4] += event["tax_minor"] or 0
            order[5] += event["shipping_minor"] or 0
        else:
            order[6] += 1
            order[7] += total
        for item in event["items"]:
            product = (event["currency"], item["product_id"], item["category"])
            sale = self._sales[*shop_window, *product]
            sale[0 if bought else 2] += item["quantity"]
            sale[1 if bought else 3] += item["quantity"] * item["unit_price_minor"]

    def _add_products(self, shop_window: tuple[Any, ...], event: dict[str, Any]) -> None:
        column = _PRODUCT_COLUMN.get(event["event_type"])
        if column is None:
            return
        for product in {(item["product_id"], item["category"]) for item in event["items"]}:
            self._products[*shop_window, *product][column] += 1
        if event["event_type"] == "ADD_TO_CART":
            for item in event["items"]:
                product = (item["product_id"], item["category"])
                self._products[*shop_window, *product][2] += item["quantity"]

    def _add_search(
        self, partition: int, shop_window: tuple[Any, ...], event: dict[str, Any]
    ) -> None:
        """Count a query by name if it is among the first of its window, else as `(other)`.

        State: up to `query_cap` names per window, partition and shop.
        """
        query = event["search_query"].strip().lower()
        named = self._queries[partition, *shop_window]
        if query not in named and len(named) >= self._terms.query_cap:
            query = OTHER
        else:
            named.add(query)
        row = self._searches[*shop_window, query]
        row[0] += 1
        row[1] += event["search_results"] == 0

    def rows(self) -> Rows:
        """Give the rows of every view."""
        return {
            "traffic_1m": {
                key: (count, len(self._visitors[key])) for key, count in self._traffic.items()
            },
            "orders_1m": {
                key: (*row, row[2] - row[3] - row[7]) for key, row in self._orders.items()
            },
            "sales_1m": {key: tuple(row) for key, row in self._sales.items()},
            "products_1m": {key: tuple(row) for key, row in self._products.items()},
            "searches_1m": {key: tuple(row) for key, row in self._searches.items()},
        }


def answer(records: Iterable[SentRecord], terms: Terms) -> Rows:
    """Judge all records and give the expected rows of every view."""
    oracle = Oracle(terms)
    for sent in records:
        oracle.take(sent)
    return oracle.rows()
