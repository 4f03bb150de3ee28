"""What the tables say while a demo runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import class_row

SHOWN = 6


@dataclass(frozen=True)
class Sales:
    """Orders of a currency.

    Units: `digits` is the exponent of the minor unit, as `gold.currency_digits` gives it.
    """

    currency: str
    digits: int
    orders: int
    net_minor: int

    @property
    def net(self) -> str:
        """The net sales as people write them."""
        return amount(self.net_minor, self.digits, self.currency)


@dataclass(frozen=True)
class Product:
    """Sales of a product in a currency; `digits` as in Sales."""

    product_id: str
    currency: str
    digits: int
    units: int
    gross_minor: int

    @property
    def gross(self) -> str:
        """The gross sales as people write them."""
        return amount(self.gross_minor, self.digits, self.currency)


@dataclass(frozen=True)
class StoredNumbers:
    """One look at the tables."""

    outcomes: dict[str, int]
    sales: list[Sales]
    products: list[Product]


def read_numbers(db: psycopg.Connection[Any], topic: str) -> StoredNumbers:
    """Read outcomes, sales by currency, and the products that sell most."""
    outcomes = db.execute(
        "SELECT outcome, sum(records)::bigint FROM quality.outcomes_1m"
        " WHERE flow = 'clean' AND source_topic = %s GROUP BY 1",
        (topic,),
    ).fetchall()
    with db.cursor(row_factory=class_row(Sales)) as cursor:
        sales = cursor.execute(
            "SELECT currency, gold.currency_digits(currency) AS digits,"
            " sum(orders)::bigint AS orders, sum(net_minor)::bigint AS net_minor"
            " FROM gold.orders_1m GROUP BY 1 ORDER BY net_minor DESC, 1 LIMIT %s",
            (SHOWN,),
        ).fetchall()
    with db.cursor(row_factory=class_row(Product)) as products_cursor:
        products = products_cursor.execute(
            "SELECT product_id, currency, gold.currency_digits(currency) AS digits,"
            " sum(units)::bigint AS units, sum(gross_minor)::bigint AS gross_minor"
            " FROM gold.sales_1m GROUP BY 1, 2 ORDER BY units DESC, 1, 2 LIMIT %s",
            (SHOWN,),
        ).fetchall()
    return StoredNumbers(dict(outcomes), sales, products)


def amount(minor: int, digits: int, currency: str) -> str:
    """Write an amount of minor units as people do: 1234 of 2 digits is `12.34 GBP`."""
    return f"{Decimal(minor).scaleb(-digits):,.{digits}f} {currency}"


@dataclass
class Rates:
    """Records per second by outcome, between two looks."""

    _outcomes: dict[str, int] = field(default_factory=dict)
    _at: float = field(default_factory=time.monotonic)
    now: dict[str, float] = field(default_factory=dict)

    def update(self, outcomes: dict[str, int]) -> None:
        """Take the difference to the look before."""
        at = time.monotonic()
        seconds = max(at - self._at, 1e-3)
        self.now = {k: (n - self._outcomes.get(k, 0)) / seconds for k, n in outcomes.items()}
        self._outcomes, self._at = dict(outcomes), at
