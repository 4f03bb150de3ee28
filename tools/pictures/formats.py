"""Values as Grafana writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from grafana.panels import Unit

NOTHING = "-"
# Grafana's signs for the currencies of the synthetic shops; others stand by their code
SIGNS = {"GBP": "£", "EUR": "€", "USD": "$", "JPY": "¥", "SEK": "kr", "PLN": "zł"}
THOUSANDS = ("", "K", " Mil", " Bil")
SPANS = (
    (60, 1, "s"),
    (3_600, 60, "min"),
    (86_400, 3_600, "hours"),
    (1e12, 86_400, "days"),
)


def formatted(value: Any, unit: str, decimals: int) -> str:
    """Write a value of a field: a number with its unit, a time or a text as it is."""
    if value is None or value != value:  # a NaN differs from itself
        return NOTHING
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str):
        return value
    if unit.startswith("currency"):
        return _amount(value, unit.removeprefix("currency").strip(": "), decimals)
    return _number(value, unit, decimals)


def _amount(value: float, currency: str, decimals: int) -> str:
    sign = SIGNS.get(currency, f"{currency} ")
    minus = "-" if value < 0 else ""
    return minus + sign + _scaled(abs(value), decimals, THOUSANDS, 1_000)


def _number(value: float, unit: str, decimals: int) -> str:
    match unit:
        case Unit.RATIO:
            return f"{value * 100:.{decimals}f} %"
        case Unit.WHOLE:
            return f"{value:,.{decimals}f}"
        case Unit.RATE:
            return _scaled(value, decimals, ("", "K", "M"), 1_000) + " rec/s"
        case Unit.BYTES:
            return _scaled(value, decimals, (" B", " KiB", " MiB", " GiB"), 1_024)
        case Unit.SECONDS:
            return _span(value, decimals)
    return f"{value:.{decimals}f}"


def _scaled(value: float, decimals: int, steps: tuple[str, ...], base: int) -> str:
    for step in steps[:-1]:
        if abs(value) < base:
            return f"{value:,.{decimals if step.strip() or decimals else 0}f}{step}"
        value /= base
    return f"{value:,.{decimals}f}{steps[-1]}"


def _span(seconds: float, decimals: int) -> str:
    if abs(seconds) < 1 and seconds:
        return f"{seconds * 1_000:.0f} ms"
    for limit, size, name in SPANS:
        if abs(seconds) < limit:
            return f"{seconds / size:.{decimals}f} {name}"
    return NOTHING
