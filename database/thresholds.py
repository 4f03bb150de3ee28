"""Limits of alerts that a shop can move: what each is as shipped, and the rows that differ.

A row of `ops.thresholds` is for everything (shop ''), or for one shop where the alert looks at
shops one by one. Alerts ask `ops.threshold(name, shop, otherwise)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg


@dataclass(frozen=True)
class Limit:
    """The number beyond which an alert fires.

    `of_shops` names the metric whose shops can each have a limit of their own.
    """

    act: float
    about: str
    of_shops: str = ""


LIMITS = {
    # one such hour in 9,000 is chance
    "revenue-drop": Limit(
        -3.7, "orders below what is expected, in standard deviations", of_shops="orders"
    ),
    "purchases-per-view": Limit(
        -3.7, "purchases below what is expected, in standard deviations", of_shops="traffic"
    ),
    "refund-spike": Limit(0.2, "refunded of gross sales"),
    "zero-result-searches": Limit(0.3, "searches without a result, of all"),
    "dead-letter-share": Limit(0.05, "refused records, of all: a warning"),
    "dead-letter-flood": Limit(0.05, "refused records, of all, when they are many: critical"),
    "late-share": Limit(0.02, "late records, of all"),
    "quality-score": Limit(0.95, "share of records that pass a dimension's rules"),
    "freshness": Limit(300, "seconds, the age of the newest event"),
    "rollup-stale": Limit(300, "seconds since hours and days were brought up to date"),
}


def own_limits(db: psycopg.Connection[Any]) -> dict[tuple[str, str], float]:
    """Read the limits that differ from the shipped ones, by name and shop ('' is all)."""
    rows = db.execute("SELECT name, shop_id, act FROM ops.thresholds ORDER BY 1, 2").fetchall()
    return {(name, shop): act for name, shop, act in rows}


def known_shops(db: psycopg.Connection[Any]) -> list[str]:
    """Read the shops that have sold or been visited, those of a synthetic history left out."""
    rows = db.execute(
        "SELECT DISTINCT shop_id FROM gold.traffic_1d_rows WHERE partition = 0 ORDER BY 1"
    ).fetchall()
    return [shop for (shop,) in rows]


def set_limit(db: psycopg.Connection[Any], name: str, shop: str, act: float) -> None:
    """Store a limit, in the place of the one that was there."""
    db.execute(
        "INSERT INTO ops.thresholds (name, shop_id, act) VALUES (%s, %s, %s)"
        " ON CONFLICT (name, shop_id) DO UPDATE"
        " SET act = excluded.act, changed_at = clock_timestamp()",
        (name, shop, act),
    )


def reset_limit(db: psycopg.Connection[Any], name: str, shop: str) -> bool:
    """Remove a limit, so that the one above it holds again; false where there was none."""
    gone = db.execute(
        "DELETE FROM ops.thresholds WHERE name = %s AND shop_id = %s RETURNING name", (name, shop)
    )
    return gone.fetchone() is not None
