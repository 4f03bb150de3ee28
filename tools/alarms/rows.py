"""How the pipeline would have stored a shop's minutes: rows of the real tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from flows.connectors.postgres import identifier
from flows.domain.rollups import GOLD_ROLLUPS
from flows.domain.tables import COUNTED, GOLD, OFFSETS, OUTCOMES, PROGRESS, RULES, Table
from tools.alarms.shops import Counts, Minutes, Shop

Session = psycopg.Connection[Any]
Row = tuple[Table, dict[str, Any]]
TOPIC, CURRENCY = "raw.web", "GBP"
ORDERS_1H, ORDERS_1D = GOLD_ROLLUPS["orders_1h"].table, GOLD_ROLLUPS["orders_1d"].table
TRAFFIC_1H, TRAFFIC_1D = GOLD_ROLLUPS["traffic_1h"].table, GOLD_ROLLUPS["traffic_1d"].table
WRITTEN = (
    *(GOLD[name] for name in ("traffic_1m", "orders_1m", "searches_1m")),
    *(ORDERS_1H, ORDERS_1D, TRAFFIC_1H, TRAFFIC_1D),
    *(OUTCOMES, RULES, OFFSETS, COUNTED),
)
BESIDE = (GOLD["traffic_1m"], COUNTED)
EMPTY: dict[str, Any] = {"text": "", "bigint": 0, "integer": 0, "timestamptz": None}


def rows_of_minutes(shop: Shop, drawn: Minutes) -> Iterator[Row]:
    """Give the rows of minutes."""
    accepted, read = drawn.accepted, drawn.read
    of_clean = {"flow": "clean", "source_topic": TOPIC}
    for n in range(len(accepted)):
        at = {"window_start": drawn.since + timedelta(minutes=n)}
        for kind, counts in drawn.events.items():
            if counts[n]:
                cells = {"shop_id": shop.name, "event_type": kind, "events": int(counts[n])}
                yield GOLD["traffic_1m"], at | cells
        orders, refunds = int(drawn.events["PURCHASE"][n]), int(drawn.events["REFUND"][n])
        if orders or refunds:
            money = {"gross_minor": drawn.gross_minor[n], "refund_minor": drawn.refund_minor[n]}
            cells = {"shop_id": shop.name, "currency": CURRENCY, "orders": orders}
            yield GOLD["orders_1m"], {**at, **cells, **money, "refunds": refunds, "events": orders}
        if searches := int(drawn.events["SEARCH"][n]):
            nothing = {"searches": searches, "zero_results": int(drawn.found_nothing[n])}
            yield GOLD["searches_1m"], {**at, **nothing, "events": searches}
        for outcome, code, counts in _outcomes(drawn):
            if counts[n]:
                cells = {"outcome": outcome, "code": code, "records": int(counts[n])}
                yield OUTCOMES, at | of_clean | cells
        if not read[n]:
            continue
        refused = int(sum(counts[n] for counts in drawn.refused.values()))
        for rule, dimension, broken in (
            ("COUNTRY_SHAPE", "validity", refused),
            ("EVENT_ID_MISSING", "completeness", 0),
            ("EVENT_TIME_LATE", "timeliness", int(drawn.late[n])),
            ("EVENT_ID_REPEATED", "uniqueness", int(drawn.repeated[n])),
        ):
            cells = {"rule": rule, "dimension": dimension, "checked": int(read[n])}
            yield RULES, at | of_clean | cells | {"broken": broken}
        yield OFFSETS, at | of_clean | {"offsets": int(read[n])}
        counted = {"flow": "metrics", "source_topic": TOPIC, "events": int(accepted[n])}
        yield COUNTED, at | counted


def _outcomes(drawn: Minutes) -> list[tuple[str, str, Counts]]:
    return [
        ("accepted", "", drawn.accepted),
        ("duplicate", "", drawn.repeated),
        ("late", "LATE", drawn.late),
        *(("rejected", code, counts) for code, counts in drawn.refused.items()),
    ]


def rows_of_hours(shop: Shop, since: datetime, events: Mapping[str, Counts]) -> Iterator[Row]:
    """Give the rows of hours."""
    for kind, counts in events.items():
        for n, count in enumerate(counts.tolist()):
            at = {"window_start": since + timedelta(hours=n), "shop_id": shop.name}
            if count:
                yield TRAFFIC_1H, {**at, "event_type": kind, "events": count}
                if kind == "PURCHASE":
                    yield ORDERS_1H, {**at, "orders": count, "events": count}


def first_day(shop: Shop, since: datetime) -> Iterator[Row]:
    """Give the day on which a shop was first seen, by which its weeks are counted."""
    for table in (ORDERS_1D, TRAFFIC_1D):
        yield table, {"window_start": since, "shop_id": shop.name, "events": 1}


def summed(drawn: Minutes) -> dict[str, Counts]:
    """Sum minutes up to whole hours; they must begin with an hour."""
    return {
        kind: np.add.reduceat(counts, np.arange(0, len(counts), 60))
        for kind, counts in drawn.events.items()
    }


def store(db: Session, rows: Iterator[Row]) -> None:
    """Copy rows into their tables; what a row does not say is nothing."""
    by_table: dict[str, tuple[Table, list[dict[str, Any]]]] = {}
    for table, cells in rows:
        by_table.setdefault(table.name, (table, []))[1].append(cells)
    for table, stored in by_table.values():
        empty = {column: EMPTY[kind] for column, kind in table.columns.items()}
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(identifier(table.name), columns)
        with db.cursor() as cursor, cursor.copy(statement) as out:
            for cells in stored:
                out.write_row([cells.get(column, nothing) for column, nothing in empty.items()])


def forget(db: Session, since: datetime) -> None:
    """Remove what was stored from a moment on."""
    for table in WRITTEN:
        db.execute(
            sql.SQL("DELETE FROM {} WHERE window_start >= %s").format(identifier(table.name)),
            (since,),
        )


def stand(db: Session, watermark: datetime, rolled_up: datetime) -> None:
    """Note how far the pipeline is."""
    db.execute(
        sql.SQL(
            "INSERT INTO {} (flow, source_topic, partition, source_offset, watermark, accepted)"
            " VALUES ('metrics', %s, 0, 1, %s,"
            " (SELECT coalesce(sum(events), 0) FROM ops.counted_1m))"
            " ON CONFLICT (flow, source_topic, partition)"
            " DO UPDATE SET watermark = excluded.watermark"
        ).format(identifier(PROGRESS.name)),
        (TOPIC, watermark),
    )
    db.execute(
        "INSERT INTO ops.jobs (job, finished_at, took_seconds, said) VALUES ('rollup', %s, 0, '')"
        " ON CONFLICT (job) DO UPDATE SET finished_at = excluded.finished_at",
        (rolled_up,),
    )
