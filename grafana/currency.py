"""Amounts on panels: never two currencies together, and never pence as pounds.

`gold.in_major` (database/sql/005_money.sql) divides by the currency's own exponent, and a second
query of each such panel names Grafana's unit for the board's currency, which a fixed unit of a
panel could not follow (test_amounts_follow_the_currency_and_its_exponent).
"""

from __future__ import annotations

from grafana.queries import Column, Sql, table

# the currencies that Grafana has a sign for; others stand by their code
SIGNED = (
    *("USD", "GBP", "EUR", "JPY", "UAH", "BRL", "DKK", "ISK", "NOK", "SEK", "CZK", "CHF", "PLN"),
    *("ZAR", "INR", "KRW", "IDR", "PHP", "VND", "TRY", "MYR", "XPF", "BGN", "PYG", "UYU", "ILS"),
)
UNIT_REF = "unit"


def major(minor: str) -> str:
    """Write the SQL of an amount in the currency's major unit."""
    return f"gold.in_major({minor}, '$currency')"


def unit_query() -> Sql:
    """Query Grafana's name for the unit of the board's currency."""
    signed = ", ".join(f"'{code}'" for code in SIGNED)
    return table(
        f"SELECT CASE WHEN '$currency' IN ({signed}) THEN 'currency' || '$currency'\n"
        "  ELSE 'currency:' || '$currency' || ' ' END AS unit",
        {"unit": Column.TEXT},
        ref=UNIT_REF,
    )
