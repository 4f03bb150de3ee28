"""The statements that write rows to tables, all tables of a flush at once.

A row replaces the stored one only when its guard is higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, LiteralString

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from flows.connectors.binary_copy import (
    HEADER,
    TRAILER,
    encoded,
    encoded_packed,
    encoded_tuples,
)
from flows.connectors.observers import UpsertCounts
from flows.connectors.postgres import identifier, identifiers
from flows.domain.batch import utc
from flows.domain.packed import PackedRows
from flows.domain.rollups import ROLLED_UP
from flows.domain.tables import AnyRows, Rows, Table, TupleRows

# The type of a column in a frame, by its SQL type: binary COPY converts nothing.
KINDS: dict[str, Any] = {
    "smallint": pl.Int16,
    "integer": pl.Int32,
    "bigint": pl.Int64,
    "text": pl.String,
    "bytea": pl.Binary,
    "timestamptz": pl.Datetime("ms", "UTC"),
}

# Hours begin where those of UTC do, as database/rollup.py counts them.
HOUR_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
# A chunk takes a dozen locks, and a server of default settings has 6,400 (docs/adr/013).
MOST_DAYS = 50


@dataclass(frozen=True)
class Staged:
    """What a flush writes to the staging table, in binary COPY, and the rows of each table."""

    copy: bytes
    sent: Mapping[str, int]


class UpsertStatements:
    """The statements that write tables.

    All rows go into one temporary table by one COPY; from there each table takes its own by one
    INSERT … ON CONFLICT.
    """

    # One staging table for all tables, with every column that any of them has. A flush of few rows
    # is mostly round trips: with one table there are two, whatever the number of tables, and
    # emptying a temporary table at COMMIT costs as much as filling it. `target` says whose a row
    # is; columns that its table lacks are null.
    #
    # Measured for one table of 9 columns, rows per second, new and again: COPY in binary and upsert
    # 133,000 and 92,000, COPY in text 96,000 and 74,000, INSERT from arrays 56,000 and 55,000.

    def __init__(self, tables: Sequence[Table]) -> None:
        self._numbers = {table: number for number, table in enumerate(tables)}
        self._columns = {"target": "smallint"}
        for table in tables:
            for name, kind in table.columns.items():
                # JSON is staged as text and cast by the INSERT: jsonb has a binary form of its own
                kind = "text" if kind == "jsonb" else kind
                if self._columns.setdefault(name, kind) != kind:
                    raise ValueError(
                        f"{table.name}.{name} is {kind}, elsewhere {self._columns[name]}"
                    )
        self._empty = pl.DataFrame(
            schema={name: KINDS[kind] for name, kind in self._columns.items()}
        )
        create = sql.SQL("CREATE TEMPORARY TABLE staged ({}) ON COMMIT DELETE ROWS").format(
            typed(self._columns, "{} {}")
        )
        merges = [
            sql.SQL("PREPARE {} AS {}").format(
                sql.Identifier(f"merge_{number}"), upsert_of(table, number)
            )
            for table, number in self._numbers.items()
        ]
        self._rolled_up = {
            table.name: number for table, number in self._numbers.items() if table.name in ROLLED_UP
        }
        if self._rolled_up:
            merges.append(sql.SQL("PREPARE mark AS {}").format(mark_hours(self._rolled_up)))
        self.prepare = sql.SQL("; ").join([create, *merges])
        self.copy = sql.SQL("COPY staged FROM STDIN (FORMAT BINARY)")

    def parts(
        self, pending: Mapping[Table, Sequence[AnyRows]]
    ) -> Iterator[Mapping[Table, Sequence[AnyRows]]]:
        """Cut a flush into transactions of at most MOST_DAYS days.

        Each chunk of each table needs locks, of which a server has some thousands: years of daily
        events in one transaction would need more. What says how far the flow is comes last, in the
        transaction of the newest rows.
        """
        windows = {t: rows for t, rows in pending.items() if "window_start" in t.columns}
        days = _days(windows)
        for i in range(0, max(len(days) - MOST_DAYS, 0), MOST_DAYS):
            yield _between(windows, None if i == 0 else days[i], days[i + MOST_DAYS])
        if len(days) <= MOST_DAYS:
            yield pending
            return
        last = (len(days) - 1) // MOST_DAYS * MOST_DAYS
        rest = {t: rows for t, rows in pending.items() if t not in windows}
        yield {**_between(windows, days[last], None), **rest}

    def staged(self, pending: Mapping[Table, Sequence[AnyRows]]) -> Staged:
        """Give what is to be written as rows of the staging table, in binary COPY."""
        parts = [HEADER]
        sent = {}
        for table, rows in pending.items():
            sent[table.name], part = self._encoded(table, rows)
            parts.append(part)
        return Staged(b"".join([*parts, TRAILER]), sent)

    def _encoded(self, table: Table, rows: Sequence[AnyRows]) -> tuple[int, bytes]:
        """Encode the rows of a table, and count them: one per key, the one with the highest guard.

        One per key, because ON CONFLICT cannot update a row twice in a statement; ordered, because
        two writers that lock rows in the same order cannot deadlock.
        """
        number = self._numbers[table]
        if len(rows) == 1 and isinstance(rows[0], PackedRows):
            return len(rows[0]), encoded_packed(rows[0], number, self._columns)
        tuples = [part.rows for part in rows if isinstance(part, TupleRows)]
        if len(tuples) == len(rows):
            newest_rows = newest_tuples(table, chain.from_iterable(tuples))
            return len(newest_rows), encoded_tuples(table, newest_rows, number, self._columns)
        frame = newest(rows, table)
        target = pl.Series("target", np.full(len(frame), number, np.int16))
        staged = pl.concat([self._empty, frame.hstack([target])], how="diagonal")
        return len(frame), encoded(staged)

    def into(self, tables: Iterable[Table]) -> str:
        """Compose the statement that moves staged rows into their tables, and marks their hours.

        Shape: one result per table: how many rows it inserted, and how many it wrote in all.
        """
        # The marks come last: the roll-up job locks marks for a moment, and writing rows is not to
        # wait for that.
        moves = [f"EXECUTE merge_{self._numbers[table]}" for table in tables]
        return "; ".join([*moves, "EXECUTE mark"] if self._rolled_up else moves)

    def changes(
        self, cursor: psycopg.Cursor, tables: Iterable[Table], staged: Staged
    ) -> dict[str, UpsertCounts]:
        """Say what became of the staged rows, from the results of `into`."""
        counts = {}
        for table in tables:
            inserted, written = cursor.fetchone() or (0, 0)
            counts[table.name] = UpsertCounts(
                inserted, written - inserted, staged.sent[table.name] - written
            )
            cursor.nextset()
        return counts


def _starts(rows: AnyRows) -> pl.Series:
    return (
        utc(rows.starts, "starts") if isinstance(rows, PackedRows) else rows.frame["window_start"]
    )


def _days(windows: Mapping[Table, Sequence[AnyRows]]) -> list[datetime]:
    """List the days of windows, ascending; none where the few that they span need no cut."""
    starts = [_starts(part) for rows in windows.values() for part in rows if len(part)]
    bounds: list[Any] = [bound for s in starts for bound in (s.min(), s.max())]
    # the usual flush holds a minute or two
    if not bounds or max(bounds) - min(bounds) < timedelta(days=MOST_DAYS - 1):
        return []
    days = {day for s in starts for day in s.dt.truncate("1d").unique().to_list()}
    return sorted(days)


def _between(
    pending: Mapping[Table, Sequence[AnyRows]], since: datetime | None, until: datetime | None
) -> dict[Table, list[AnyRows]]:
    """Take the rows of the windows that start in `[since, until)`."""
    start = pl.col("window_start")
    wanted = pl.lit(True)
    if since is not None:
        wanted &= start >= since
    if until is not None:
        wanted &= start < until
    chosen: dict[Table, list[AnyRows]] = {
        table: [Rows(table, part.frame.filter(wanted), part.distinct) for part in rows]
        for table, rows in pending.items()
    }
    return {t: rows for t, rows in chosen.items() if any(len(part) for part in rows)}


def upsert_of(table: Table, number: int) -> sql.Composed:
    """Compose the INSERT of a table's staged rows.

    A stored row is replaced only by a higher guard; without a guard it is never replaced.
    """
    others = [sql.Identifier(c) for c in table.columns if c not in table.keys]
    action: sql.Composable = sql.SQL("NOTHING")
    if table.guard is not None:
        changes = [sql.SQL("{0} = excluded.{0}").format(c) for c in others]
        if table.stamp is not None:
            changes.append(sql.SQL("{} = clock_timestamp()").format(sql.Identifier(table.stamp)))
        # The guard makes it safe to write any rows again, in any order: a replay, a retry after a
        # commit whose answer was lost, two processes that overlap. An equal row costs no write.
        action = sql.SQL("UPDATE SET {} WHERE excluded.{g} > stored.{g}").format(
            sql.SQL(", ").join(changes), g=sql.Identifier(table.guard)
        )
    # `xmax` of an updated row is the transaction that locked its older version; a new row has 0
    return sql.SQL(
        "WITH written AS (INSERT INTO {} AS stored ({}) SELECT {} FROM staged WHERE target = {} ON"
        " CONFLICT ({}) DO {} RETURNING stored.xmax = 0 AS fresh) SELECT count(*) FILTER (WHERE"
        " fresh), count(*) FROM written"
    ).format(
        identifier(table.name),
        identifiers(table.columns),
        typed(table.columns, "{}::{}"),
        number,
        identifiers(table.keys),
        action,
    )


def mark_hours(targets: Mapping[str, int]) -> sql.Composed:
    """Compose the statement that marks the hours of the rows staged for these tables.

    The roll-up job (database/rollup.py) recounts marked hours.
    """
    sources = [sql.SQL("({}::smallint, {})").format(n, name) for name, n in targets.items()]
    return sql.SQL(
        "INSERT INTO ops.changes AS known (source, hour)"
        " SELECT DISTINCT source, date_bin('1 hour', window_start, {epoch})"
        " FROM staged JOIN (VALUES {sources}) AS names (target, source) USING (target)"
        " ORDER BY 1, 2"
        " ON CONFLICT (source, hour, writer) DO UPDATE SET changed_by = pg_current_xact_id()"
    ).format(epoch=sql.Literal(HOUR_ORIGIN), sources=sql.SQL(", ").join(sources))


def typed(columns: dict[str, str], form: LiteralString) -> sql.Composed:
    """Compose a list of columns with their types, each by the form: "{} {}" or "{}::{}"."""
    return sql.SQL(", ").join(
        sql.SQL(form).format(sql.Identifier(c), sql.SQL(t)) for c, t in columns.items()
    )


def newest(parts: Sequence[AnyRows], table: Table) -> pl.DataFrame:
    """Give one row per key, the one with the highest guard, ordered by key."""
    frame = parts[0].frame if len(parts) == 1 else pl.concat([part.frame for part in parts])
    if len(parts) == 1 and parts[0].distinct:
        return frame.sort(table.keys)
    if table.guard is None:
        return frame.unique(table.keys, keep="first", maintain_order=True).sort(table.keys)
    return frame.sort([*table.keys, table.guard]).unique(
        table.keys, keep="last", maintain_order=True
    )


def newest_tuples(table: Table, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Give one row per key, the one with the highest guard (without a guard the first), ordered."""
    names = list(table.columns)
    keys = [names.index(key) for key in table.keys]
    guard = None if table.guard is None else names.index(table.guard)
    kept: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        key = tuple(row[i] for i in keys)
        known = kept.get(key)
        if known is None or (guard is not None and row[guard] >= known[guard]):
            kept[key] = row
    return [kept[key] for key in sorted(kept)]
