"""Compare the gold of two databases cell by cell: of two runs, two versions or two engines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from database.connection import connect
from flows.domain.families import CATALOGUE
from flows.domain.metrics import MetricTable
from flows.domain.rollups import Grain, rolled
from flows.runtime.settings import Settings
from shopstream.verify.checks import Check

FETCH_ROWS = 5_000
Row = tuple[Any, ...]


def compare_with(settings: Settings, other: str) -> Iterator[Check]:
    """Compare every view of minutes, hours and days, row by row in the order of their keys.

    State: a few thousand rows, however many there are.
    """
    with (
        connect(settings.database_url, settings.startup_seconds) as ours,
        connect(other, settings.startup_seconds) as theirs,
    ):
        for metric in CATALOGUE:
            for view in (metric, *(rolled(metric, grain) for grain in (Grain.HOUR, Grain.DAY))):
                yield compare_view(ours, theirs, view)


def compare_view(ours: psycopg.Connection, theirs: psycopg.Connection, view: MetricTable) -> Check:
    """Compare one view."""
    keys = ["window_start", *(d.name for d in view.by)]
    measures = [m.name for m in view.stored]
    check = Check(f"gold.{view.name}")
    left, right = (rows_of(db, view.name, keys, measures) for db in (ours, theirs))
    ours_row, theirs_row = next(left, None), next(right, None)
    while ours_row is not None or theirs_row is not None:
        place = min(
            (row[: len(keys)] for row in (ours_row, theirs_row) if row is not None), key=_order
        )
        ours_here = ours_row is not None and ours_row[: len(keys)] == place
        theirs_here = theirs_row is not None and theirs_row[: len(keys)] == place
        for i, measure in enumerate(measures, len(keys)):
            check.same(
                f"{measure} at {' '.join(map(str, place))}",
                theirs_row[i] if theirs_here and theirs_row is not None else None,
                ours_row[i] if ours_here and ours_row is not None else None,
            )
        if ours_here:
            ours_row = next(left, None)
        if theirs_here:
            theirs_row = next(right, None)
    return check


def _order(key: Row) -> tuple[Any, ...]:
    return (key[0], *(str(part).encode() for part in key[1:]))


_names = count()


def rows_of(
    db: psycopg.Connection, view: str, keys: list[str], measures: list[str]
) -> Iterator[Row]:
    """Read a view in the order of its keys; texts by their bytes, whatever the locale."""
    order = sql.SQL(", ").join(
        sql.Identifier(key)
        if key == "window_start"
        else sql.SQL('{} COLLATE "C"').format(sql.Identifier(key))
        for key in keys
    )
    query = sql.SQL("SELECT {} FROM gold.{} ORDER BY {}").format(
        sql.SQL(", ").join(map(sql.Identifier, keys + measures)), sql.Identifier(view), order
    )
    with db.transaction(), db.cursor(name=f"rows_{next(_names)}") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(query)
        yield from cursor
