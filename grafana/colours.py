"""The same colour for the same thing on every board, in one table.

The hues are those of Okabe and Ito, lightened for a dark ground, so that people with any colour
vision can tell neighbours apart. Red, amber and green are kept for bad, watch and good. Values of
open sets (products, countries) have no entry: Grafana gives them a colour by their name.
"""

from __future__ import annotations

from flows.registry import NAMES

GREEN, AMBER, RED = "#3BB273", "#F2B134", "#E5484D"
BLUE, SKY, TEAL, VIOLET, PINK, ORANGE, YELLOW, GREY, DIM = (
    "#4C8DFF",
    "#66C2FF",
    "#26B8A6",
    "#A78BFA",
    "#F472B6",
    "#FB923C",
    "#E6D34A",
    "#9AA4B2",
    "#5B6472",
)

MEASURES = {
    "Net sales": GREEN,
    "Gross sales": TEAL,
    "Orders": BLUE,
    "Units sold": SKY,
    "Visitors": VIOLET,
    "Discounts": YELLOW,
    "Refunds": PINK,
    "Refunded": PINK,
    "Day before": GREY,
    "Week before": DIM,
    "Change": GREY,
    "Searches": BLUE,
    "Without result": ORANGE,
}
STEPS = {"Page views": SKY, "Added to cart": BLUE, "Checkouts": VIOLET, "Purchases": GREEN}
OUTCOMES = {"accepted": GREEN, "duplicate": SKY, "late": AMBER, "rejected": RED}
CHANNELS = {
    "DIRECT": BLUE,
    "SEARCH": TEAL,
    "SOCIAL": PINK,
    "EMAIL": VIOLET,
    "ADS": ORANGE,
    "REFERRAL": YELLOW,
    "UNKNOWN": DIM,
}
DEVICES = {"MOBILE": SKY, "DESKTOP": BLUE, "TABLET": VIOLET, "UNKNOWN": DIM}
DIMENSIONS = {
    "completeness": BLUE,
    "validity": TEAL,
    "consistency": VIOLET,
    "uniqueness": SKY,
    "timeliness": ORANGE,
    "volume": YELLOW,
    "overall": GREEN,
}
CODES = {
    "LATE": AMBER,
    "INVALID": RED,
    "NOT_AVRO": VIOLET,
    "TRUNCATED": PINK,
    "ID_CONFLICT": SKY,
    "FUTURE_TIME": ORANGE,
    "EMPTY": DIM,
    "TOO_LARGE": YELLOW,
    "BAD_MAGIC": BLUE,
    "UNKNOWN_SCHEMA": TEAL,
    "TRAILING_BYTES": GREY,
    "BAD_UTF8": GREEN,
}
# by the order of the registry, so that a new flow has a colour without a line here
FLOWS = dict(zip(NAMES, (BLUE, GREEN, ORANGE, VIOLET, SKY, PINK, YELLOW, TEAL), strict=False))
PERCENTILES = {"p50": SKY, "p95": VIOLET, "p99": PINK}

ANNOTATIONS = {
    "deployment": BLUE,
    "restart": AMBER,
    "replay": VIOLET,
    "schema": TEAL,
    "synthetic": DIM,
    "alert": RED,
}

KNOWN = MEASURES | STEPS | OUTCOMES | CHANNELS | DEVICES | DIMENSIONS | CODES | FLOWS | PERCENTILES


def colour(name: str) -> str:
    """Look up the colour of a thing.

    Errors: KeyError for a name that has none yet.
    """
    return KNOWN[name]
