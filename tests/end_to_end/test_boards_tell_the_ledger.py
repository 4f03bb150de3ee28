"""Shoppers through all flows and the roll-up job: the first rows of the boards say what the
generator's answer key says."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from database.connection import connect
from database.rollup import roll_up
from grafana.boards import BOARDS, BY_UID
from grafana.macros import Surroundings, Value, expand
from grafana.queries import Sql
from grafana.uids import LIVE, PRODUCTS, QUALITY
from shopstream.verify.ledger import Ledger
from tests.support.stack import Stack

HOURS = 3
RANGES = (timedelta(hours=6), timedelta(hours=24), timedelta(days=7), timedelta(days=30))
EXPONENTS = {"GBP": 2, "EUR": 2, "USD": 2, "SEK": 2, "PLN": 2, "JPY": 0}
ALL = {v.name: Value(v.column, raw=True) for b in BOARDS for v in b.variables if v.many}
Rows = list[dict[str, Any]]


def rows(table: pa.Table) -> Rows:
    listed: Rows = table.to_pylist()
    return listed


def total(rows: Rows, measure: str, **where: str) -> int:
    return sum(r[measure] for r in rows if all(r[k] == v for k, v in where.items()))


def ask(
    db: psycopg.Connection[Any], around: Surroundings, board: str, title: str
) -> list[tuple[Any, ...]]:
    panel = next(p for p in BY_UID[board].panels if p.title == title)
    query = next(q for q in panel.queries if isinstance(q, Sql) and q.ref == "A")
    return db.execute(expand(query.text, around).encode()).fetchall()


def summed(points: list[tuple[Any, ...]]) -> float:
    """What a stat shows that adds up its line."""
    return float(sum(value for _, value in points if value is not None))


def last(points: list[tuple[Any, ...]]) -> float | None:
    """What a stat shows that takes the last point."""
    values = [value for _, value in points if value is not None]
    return float(values[-1]) if values else None


def ratio(above: int, below: int) -> Any:
    return pytest.approx(float(Fraction(above, below)), rel=1e-12) if below else None


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    """Three hours of shoppers with faults, sent at once, drained and rolled up."""
    start = datetime.now(UTC) - timedelta(hours=HOURS, minutes=7)
    folder = stack.folder / "ledger"
    generator = stack.run(
        "generator",
        [
            sys.executable,
            "-m",
            "generators",
            "run",
            "--rate",
            "2",
            "--duration",
            str(HOURS * 3_600),
            "--speed",
            "0",
            "--start",
            start.isoformat(timespec="seconds"),
            "--ledger",
            str(folder),
            "--visitors",
            "400",
        ],
    )
    assert stack.exit_of(generator, 120) == 0
    flows = stack.start_all()
    stack.drain(seconds=120)
    assert stack.terminate(*flows.values()) == [0, 0, 0, 0]
    with connect(stack.database_url, 5.0) as db:
        assert roll_up(db).hours > 0
    return Ledger(folder)


def test_headlines_are_those_of_the_ledger_for_every_range_and_currency(
    stack: Stack, ledger: Ledger
) -> None:
    orders, sales = rows(ledger.gold("orders_1m")), rows(ledger.gold("sales_1m"))
    traffic, products, searches = (
        rows(ledger.gold(v)) for v in ("traffic_1m", "products_1m", "searches_1m")
    )
    outcomes = Counter(e["expected_outcome"] for e in ledger.events)
    assert len({r["currency"] for r in orders}) >= 4
    assert outcomes["late"]
    assert outcomes["rejected"]
    end = datetime.now(UTC)
    with psycopg.connect(stack.database_url, autocommit=True, options="-c timezone=UTC") as db:
        for length in RANGES:
            for currency, exponent in EXPONENTS.items():
                around = Surroundings(end - length, end, {**ALL, "currency": Value(currency)})
                check_money(
                    partial(ask, db, around),
                    orders,
                    sales,
                    currency,
                    10**exponent,
                )
            around = Surroundings(end - length, end, {**ALL, "currency": Value("GBP")})
            check_traffic(
                partial(ask, db, around),
                traffic,
                products,
                searches,
            )
            check_outcomes(partial(ask, db, around, QUALITY), outcomes)
        settled = Surroundings(
            end - timedelta(hours=1), end + timedelta(minutes=10), around.variables
        )
        for title in ("Accounting residue", "Refused, not stored", "Gold residue by minute"):
            assert ask(db, settled, QUALITY, title) == [(0,)], title


def check_money(
    look: Callable[[str, str], list[tuple[Any, ...]]],
    orders: Rows,
    sales: Rows,
    currency: str,
    minor: int,
) -> None:
    net = total(orders, "net_minor", currency=currency)
    count = total(orders, "orders", currency=currency)
    assert round(summed(look(LIVE, "Net sales")) * minor) == net
    assert summed(look(LIVE, "Orders")) == count
    paid = total(orders, "gross_minor", currency=currency) - total(
        orders, "discount_minor", currency=currency
    )
    assert last(look(LIVE, "Average order value")) == ratio(paid, count * minor)
    gross, back = (
        total(sales, "gross_minor", currency=currency),
        total(sales, "refund_minor", currency=currency),
    )
    assert round(summed(look(PRODUCTS, "Gross sales")) * minor) == gross
    assert summed(look(PRODUCTS, "Units sold")) == total(sales, "units", currency=currency)
    assert last(look(PRODUCTS, "Refunded share")) == ratio(back, gross)
    by_product: Counter[str] = Counter()
    for row in sales:
        by_product[row["product_id"]] += row["gross_minor"] if row["currency"] == currency else 0
    best = [(p, n) for p, n in sorted(by_product.items(), key=lambda i: (-i[1], i[0])) if n][:10]
    assert [(p, round(n * minor)) for p, _, n, _ in look(LIVE, "Top products")] == best
    so_far = 0
    for (product, amount), shown in zip(best, look(PRODUCTS, "Products"), strict=True):
        so_far += amount
        assert shown[0] == product
        assert shown[4] == ratio(so_far, gross)


def check_traffic(
    look: Callable[[str, str], list[tuple[Any, ...]]], traffic: Rows, products: Rows, searches: Rows
) -> None:
    views, bought = (total(traffic, "events", event_type=t) for t in ("PAGE_VIEW", "PURCHASE"))
    assert last(look(LIVE, "Purchases per page view")) == ratio(bought, views)
    steps = [
        total(traffic, "events", event_type=t)
        for t in ("PAGE_VIEW", "ADD_TO_CART", "CHECKOUT", "PURCHASE")
    ]
    shown = look(LIVE, "Steps (events)")
    assert [n for _, n in shown] == steps
    assert shown[1][0] == f"Added to cart · {100 * steps[1] / steps[0]:.1f} %"
    for column in ("channel", "device"):
        expected: Counter[str] = Counter()
        for row in traffic:
            expected[row[column]] += row["events"]
        assert dict(look(LIVE, f"Traffic by {column}")) == dict(expected)
    assert last(look(PRODUCTS, "View to cart")) == ratio(
        total(products, "carts"), total(products, "views")
    )
    terms: Counter[str] = Counter()
    for row in searches:
        terms[row["query"]] += row["searches"]
    assert [n for _, n, _ in look(LIVE, "Search terms")] == [n for _, n in terms.most_common(9)]


def check_outcomes(look: Callable[[str], list[tuple[Any, ...]]], outcomes: Counter[str]) -> None:
    everything = outcomes.total()
    assert last(look("Share not counted")) == ratio(
        outcomes["rejected"] + outcomes["late"], everything
    )
    refused = outcomes["rejected"] + outcomes["late"]
    assert look("Records not counted") == [(refused,)]
    assert last(look("Late")) == ratio(outcomes["late"], everything)
    assert last(look("Duplicates")) == ratio(outcomes["duplicate"], everything)
