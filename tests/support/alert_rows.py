"""Rows by hand for alerts: only what a case is about, the rest is empty.

Time: before or after one noon of 2026, whatever the hour of the run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from flows.domain.rollups import GOLD_ROLLUPS
from flows.domain.tables import (
    COUNTED,
    DEAD_LETTERS,
    GOLD,
    LOSSES,
    OFFSETS,
    OUTCOMES,
    PROGRESS,
    RULES,
    Table,
)

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)
EMPTY: dict[str, Any] = {"text": "", "bigint": 0, "integer": 0, "double precision": 0}
Row = tuple[Table, dict[str, Any]]


def before(days: float = 0, hours: float = 0, minutes: float = 0) -> datetime:
    return NOON - timedelta(days=days, hours=hours, minutes=minutes)


def orders(
    at: datetime, currency: str, gross: int, count: int = 100, partition: int = 0, **more: int
) -> Row:
    cells = {"currency": currency, "gross_minor": gross, "orders": count, "partition": partition}
    return GOLD["orders_1m"], {"window_start": at} | cells | more


def hour_of(shop: str, count: int, week: int, hours_before: int = 0, partition: int = 0) -> Row:
    """Orders of the last hour that is whole two minutes before noon, so many weeks before."""
    at = before(days=7 * week, hours=2 + hours_before)
    cells = {"window_start": at, "shop_id": shop, "orders": count, "partition": partition}
    return GOLD_ROLLUPS["orders_1h"].table, cells


def day_of(shop: str, week: int, partition: int = 0, table: str = "orders") -> Row:
    """Give a day on which a shop was there, so many weeks before."""
    at = before(days=7 * week, hours=12)
    cells = {"window_start": at, "shop_id": shop, "events": 1, "partition": partition}
    return GOLD_ROLLUPS[f"{table}_1d"].table, cells


def looked(shop: str, views: int, bought: int, week: int) -> list[Row]:
    """Page views and purchases of the last whole hour, so many weeks before."""
    cells = {"window_start": before(days=7 * week, hours=2), "shop_id": shop, "partition": 0}
    return [
        (GOLD_ROLLUPS["traffic_1h"].table, {**cells, "event_type": kind, "events": events})
        for kind, events in (("PAGE_VIEW", views), ("PURCHASE", bought))
    ]


def traffic(at: datetime, kind: str, events: int, partition: int = 0) -> Row:
    return GOLD["traffic_1m"], {
        "window_start": at,
        "event_type": kind,
        "events": events,
        "partition": partition,
    }


def searched(at: datetime, searches: int, nothing: int, query: str = "shoes") -> Row:
    return GOLD["searches_1m"], {
        "window_start": at,
        "searches": searches,
        "zero_results": nothing,
        "query": query,
    }


def outcome(at: datetime, what: str, records: int, code: str = "", partition: int = 0) -> Row:
    cells = {"flow": "clean", "source_topic": "raw.web", "outcome": what, "code": code}
    return OUTCOMES, {"window_start": at, "records": records, "partition": partition} | cells


def refused(at: datetime, event_type: str) -> Row:
    """Give a dead letter, at an offset of its own."""
    offset = int((NOON - at).total_seconds())
    cells = {"source_topic": "raw.web", "source_offset": offset, "flow": "clean", "code": "INVALID"}
    more = {"source_timestamp": at, "event_type": event_type, "violations": "[]", "payload": b""}
    return DEAD_LETTERS, {**cells, **more, "source_key": b""}


def checked(
    at: datetime, rule: str, dimension: str, count: int, broken: int = 0, **more: int
) -> Row:
    cells = {"flow": "clean", "source_topic": "raw.web", "rule": rule, "dimension": dimension}
    counts = {"window_start": at, "checked": count, "broken": broken, "partition": 0}
    return RULES, counts | cells | more


def passed(at: datetime, offsets: int, partition: int = 0, **more: int) -> Row:
    cells = {"flow": "clean", "source_topic": "raw.web", "partition": partition}
    return OFFSETS, {"window_start": at, "offsets": offsets} | cells | more


def counted(at: datetime, events: int, partition: int = 0) -> Row:
    cells = {"flow": "metrics", "source_topic": "raw.web", "partition": partition}
    return COUNTED, {"window_start": at, "events": events} | cells


def loss(records: int) -> Row:
    cells = {"flow": "clean", "topic": "raw.web", "why": "deleted before it was read"}
    return LOSSES, {"to_offset": records, "records": records} | cells


def progress(watermark: datetime, partition: int = 0, accepted: int = 0) -> Row:
    cells = {"flow": "metrics", "source_topic": "raw.web", "partition": partition}
    return PROGRESS, {"watermark": watermark, "source_offset": 9, "accepted": accepted} | cells


JOBS = Table(
    "ops.jobs",
    {
        "job": "text",
        "finished_at": "timestamptz",
        "took_seconds": "double precision",
        "said": "text",
    },
    ("job",),
    None,
)


def job(finished_at: datetime, name: str = "rollup") -> Row:
    return JOBS, {"job": name, "finished_at": finished_at}


def insert(db: psycopg.Connection[Any], rows: list[Row]) -> None:
    for table, cells in rows:
        columns = {c: cells[c] if c in cells else EMPTY[kind] for c, kind in table.columns.items()}
        db.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(*table.name.split(".")),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            ),
            list(columns.values()),
        )
