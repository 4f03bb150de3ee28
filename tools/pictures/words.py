"""Numbers as Grafana writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from grafana.panels import Unit

NOTHING = "-"
SIGNS = {"GBP": "£", "EUR": "€", "USD": "$", "JPY": "¥", "SEK": "kr", "PLN": "zł"}


def written(value: Any, unit: str, decimals: int) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str):
        return value
    if value != value:
        return NOTHING
    if unit.startswith("currency"):
        code = unit.removeprefix("currency").strip(": ")
        sign = SIGNS.get(code, code + " ")
        return (
            ("-" if value < 0 else "")
            + sign
            + scaled(abs(value), decimals, ("", "K", " Mil", " Bil"), 1000)
        )
    match unit:
        case Unit.RATIO:
            return f"{value * 100:.{decimals}f} %"
        case Unit.WHOLE:
            return f"{value:,.{decimals}f}"
        case Unit.COUNT:
            return scaled(value, decimals, ("", "K", " Mil", " Bil"), 1000)
        case Unit.RATE:
            return scaled(value, decimals, ("", "K", "M"), 1000) + " c/s"
        case Unit.BYTES:
            return scaled(value, decimals, (" B", " KiB", " MiB", " GiB"), 1024)
        case Unit.SECONDS:
            return lasting(value, decimals)
    return f"{value:.{decimals}f}"


def scaled(value: float, decimals: int, steps: tuple[str, ...], base: int) -> str:
    for step in steps[:-1]:
        if abs(value) < base:
            return f"{value:,.{decimals if step.strip() or decimals else 0}f}{step}"
        value /= base
    return f"{value:,.{decimals}f}{steps[-1]}"


def lasting(seconds: float, decimals: int) -> str:
    if abs(seconds) < 1 and seconds:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, name in (
        (60, 1, "s"),
        (3_600, 60, "min"),
        (86_400, 3_600, "hours"),
        (1e12, 86_400, "days"),
    ):
        if abs(seconds) < limit:
            return f"{seconds / size:.{decimals}f} {name}"
    return NOTHING
