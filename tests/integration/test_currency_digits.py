"""One table of currency digits for boards and terminal: `gold.currency_digits`, by ISO 4217."""

from __future__ import annotations

import pycountry

from flows.domain.tables import GOLD
from shopstream.demo.stored_numbers import read_numbers
from tests.support.databases import Database
from tests.support.rollup_rows import prepare, row_of, write

# the currencies of ISO 4217 that have another number of digits than two, as of 2026
DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


def test_every_currency_has_the_digits_of_iso_4217(database: Database) -> None:
    expected = {currency.alpha_3: 2 for currency in pycountry.currencies}
    assert len(expected) > 150
    for digits, currencies in DIGITS.items():
        expected |= dict.fromkeys(currencies.split(), digits)
    stored = database.query(
        "SELECT currency, gold.currency_digits(currency),"
        " round(gold.in_major(1000, currency), 4)::text FROM unnest(%s::text[]) AS currency",
        list(expected),
    )
    assert {currency: digits for currency, digits, _ in stored} == expected
    major = {0: "1000.0000", 2: "10.0000", 3: "1.0000", 4: "0.1000"}
    assert {currency: text for currency, _, text in stored} == {
        currency: major[digits] for currency, digits in expected.items()
    }


def test_the_terminal_shows_amounts_as_the_boards_do(database: Database) -> None:
    orders, sales = GOLD["orders_1m"], GOLD["sales_1m"]
    with database.connect() as db:
        prepare(db)
        for table in (orders, sales):
            with db.transaction():
                rows = [row_of(table, 0, 0, currency, 1_000) for currency in ("XOF", "KWD", "GBP")]
                write(db, table, rows)
        numbers = read_numbers(db, "raw.web")
    boards = dict(
        database.query("SELECT currency, gold.in_major(net_minor, currency) FROM gold.orders_1m")
    )
    assert boards.keys() == {"XOF", "KWD", "GBP"}
    decimals = {"XOF": 0, "KWD": 3, "GBP": 2}
    assert {s.currency: s.net for s in numbers.sales} == {
        currency: f"{net:,.{decimals[currency]}f} {currency}" for currency, net in boards.items()
    }
    assert {p.currency: p.digits for p in numbers.products} == decimals
