"""Rows of minutes by hand, written as flows write them, and a plain recount of hours and days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import psycopg

from flows.connectors.upserts import KINDS, UpsertStatements
from flows.domain.rollups import GOLD_ROLLUPS, QUALITY_ROLLUPS, Grain, Rollup
from flows.domain.tables import GOLD, OUTCOMES, RULES, Rows, Table

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
MINUTES = (*GOLD.values(), OUTCOMES, RULES)
MERGE = UpsertStatements(MINUTES)
Key = tuple[Any, ...]


def row_of(table: Table, minute: int, partition: int, name: str, guard: int) -> tuple[Any, ...]:
    """Make a row whose number of events is `guard`; other numbers follow from it, up and down."""
    cells: list[Any] = []
    for i, (column, kind) in enumerate(table.columns.items()):
        if column == "window_start":
            cells.append(MIDNIGHT + timedelta(minutes=minute))
        elif column == "partition":
            cells.append(partition)
        elif kind == "text":
            cells.append(name if column in table.keys else f"of {name}")
        else:
            cells.append(guard if column == table.guard else guard * (7 + i) % 13)
    return tuple(cells)


def frame_of(table: Table, rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), {c: KINDS[t] for c, t in table.columns.items()}, orient="row")


def prepare(db: psycopg.Connection[Any]) -> None:
    """Do what a flow does when it connects."""
    db.prepare_threshold = None
    db.execute(MERGE.prepare)


def write(db: psycopg.Connection[Any], table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """Do what a flow does to write rows, within the transaction of the caller."""
    pending = {table: [Rows(table, frame_of(table, rows))]}
    with db.cursor() as cursor:
        cursor.execute("DELETE FROM staged")  # a flow has one flush per transaction
        with cursor.copy(MERGE.copy) as copy:
            copy.write(MERGE.staged(pending).copy)
        cursor.execute(MERGE.into(pending))


def recount(db: psycopg.Connection[Any], rollup: Rollup, minutes: Table) -> dict[Key, Key]:
    """Give the rows that a roll-up should have, from the minutes, with plain loops."""
    columns = ["window_start", "partition", *rollup.by, *rollup.sums]
    totals: dict[Key, list[int]] = defaultdict(lambda: [0] * len(rollup.sums))
    for start, partition, *rest in db.execute(f"SELECT {', '.join(columns)} FROM {minutes.name}"):
        window = (
            start.replace(minute=0)
            if rollup.grain is Grain.HOUR
            else start.replace(hour=0, minute=0)
        )
        names, numbers = rest[: len(rollup.by)], rest[len(rollup.by) :]
        total = totals[window, -1 if partition < 0 else 0, *names]
        total[:] = [a + b for a, b in zip(total, numbers, strict=True)]
    return {key: tuple(total) for key, total in totals.items()}


def stored(db: psycopg.Connection[Any], rollup: Rollup) -> dict[Key, Key]:
    columns = ["window_start", "partition", *rollup.by, *rollup.sums]
    cut = len(columns) - len(rollup.sums)
    rows = db.execute(f"SELECT {', '.join(columns)} FROM {rollup.table.name}").fetchall()
    return {row[:cut]: row[cut:] for row in rows}


def each_rollup() -> Iterable[tuple[Rollup, Table]]:
    """Every roll-up with the table of minutes that it comes from in the end."""
    for minutes in MINUTES:
        stem = minutes.name.removesuffix("_1m_by_partition")
        for rollup in (*GOLD_ROLLUPS.values(), *QUALITY_ROLLUPS):
            if rollup.table.name in (f"{stem}_1h_rows", f"{stem}_1d_rows"):
                yield rollup, minutes


def assert_exact(db: psycopg.Connection[Any]) -> int:
    """Every hour and every day equals the recount; gives how many rows were compared."""
    compared = 0
    for rollup, minutes in each_rollup():
        expected = recount(db, rollup, minutes)
        assert stored(db, rollup) == expected, rollup.table.name
        compared += len(expected)
    return compared
