"""Upsert rows into PostgreSQL, with or without TimescaleDB.

Delivery guarantees: at-least-once, idempotent. A row replaces the stored one only when its guard is
higher, so a replay writes nothing until it passes what is stored. All tables of a flush are one
transaction. Back pressure: while the database is away the flow waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString, Protocol

import numpy as np
import polars as pl
import psycopg
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import errors, sql

from flows.connectors.observers import NULL_OBSERVER, TableObserver, UpsertCounts
from flows.connectors.postgres import PASSING, identifier, identifiers, reason, refused
from flows.connectors.records import Pulled
from flows.domain.errors import PermanentError, TransientError
from flows.domain.rollups import ROLLED_UP
from flows.domain.tables import Rows, Table

# what a column of a type is in a frame: binary COPY converts nothing
KINDS: dict[str, Any] = {
    "smallint": pl.Int16,
    "integer": pl.Int32,
    "bigint": pl.Int64,
    "text": pl.String,
    "bytea": pl.Binary,
    "timestamptz": pl.Datetime("ms", "UTC"),
}

# hours are those of UTC, as database/rollup.py counts them
HOUR_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
RETRY_SECONDS = 0.1
RETRY_MOST_SECONDS = 5.0
# a database that was away for longer has an operator at work: the supervisor then starts the flow
# anew
PATIENCE_SECONDS = 600.0


class HasRows(Protocol):
    """An item on the edge to a table: its rows, and whether the poll found no more than this."""

    @property
    def rows(self) -> Sequence[Rows]: ...
    @property
    def caught_up(self) -> bool: ...


@dataclass(frozen=True)
class Database:
    """Where tables are; how long to wait for it at start, and between writes in a backlog."""

    url: str
    startup_seconds: float = 30.0
    busy_seconds: float = 1.0


class TimescaleSink(FixedPartitionedSink[Any, None]):
    """Tables as a sink of items that have rows.

    With `pulled`, there are rows besides, which are taken from it at each flush.

    Time: writes when an item has `caught_up`, else at most every `busy_seconds`.
    """

    def __init__(
        self,
        database: Database,
        tables: Sequence[Table],
        stopping: Callable[[], bool],
        observer: TableObserver = NULL_OBSERVER,
        pulled: Pulled[Iterable[Rows]] | None = None,
    ) -> None:
        self._arguments = (database, UpsertStatements(tables), stopping, observer, pulled)
        self.writer: Writer | None = None

    def list_parts(self) -> list[str]:
        """Name the one part: the database."""
        return ["timescale"]

    def open(self) -> Writer:
        """Connect; what is wrong shows here, before the flow runs."""
        if self.writer is None:
            self.writer = Writer(*self._arguments)
        return self.writer

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Writer:
        """Give Bytewax the writer."""
        return self.open()


class Writer(StatefulSinkPartition[Any, None]):
    """Write rows, all tables of a flush in one transaction.

    Errors: TransientError when the database stays away too long, PermanentError for a broken
    contract.
    """

    def __init__(
        self,
        database: Database,
        statements: UpsertStatements,
        stopping: Callable[[], bool],
        observer: TableObserver,
        pulled: Pulled[Iterable[Rows]] | None,
    ) -> None:
        self._database = database
        self._statements = statements
        self._stopping = stopping
        self._observer = observer
        self._pulled = pulled
        self._pending: dict[Table, list[Rows]] = {}
        self._may_pull = False
        self._written = time.monotonic()
        self._db: psycopg.Connection | None = None
        self._changes: dict[str, UpsertCounts] = {}
        self._retry(lambda: self._connection().execute("SELECT 1"), database.startup_seconds)

    def write_batch(self, items: list[HasRows]) -> None:
        """Hold the rows of the items, and write them when it is time."""
        for item in items:
            self._hold(item.rows)
        self._may_pull = True
        if items[-1].caught_up or time.monotonic() - self._written >= self._database.busy_seconds:
            self.flush()

    def _hold(self, rows: Iterable[Rows]) -> None:
        for part in rows:
            self._pending.setdefault(part.table, []).append(part)

    def snapshot(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Return when everything that was counted is committed."""
        if self._pulled is not None and self._may_pull:
            self._hold(self._pulled.take())
        self._written = time.monotonic()
        if self._pending:
            with self._observer.flushing("database"):
                self._retry(self._write, PATIENCE_SECONDS)
            self._pending = {}
            self._observer.rows_committed(self._changes)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _write(self) -> None:
        db = self._connection()
        staged = self._statements.staged(self._pending)
        with db.transaction(), db.cursor() as cursor:
            with cursor.copy(self._statements.copy) as copy:
                copy.write(encoded(staged))
            cursor.execute(self._statements.into(self._pending))
            self._changes = self._statements.changes(cursor, self._pending, staged)

    def _connection(self) -> psycopg.Connection:
        if self._db is None or self._db.closed:
            # TCP keep-alive and a user timeout: a database that vanished without a word is noticed
            # in seconds
            self._db = psycopg.connect(
                self._database.url,
                autocommit=True,
                connect_timeout=5,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=15_000,
                options="-c timezone=UTC",
                application_name="shopstream",
                # else psycopg prepares statements of its own, and after a rollback it deallocates
                # all, ours too
                prepare_threshold=None,
            )
            self._db.execute(self._statements.prepare)
        return self._db

    def _retry(self, action: Callable[[], Any], patience_seconds: float) -> None:
        """Repeat what waiting can mend, with capped, jittered pauses."""
        until = time.monotonic() + patience_seconds
        pause = RETRY_SECONDS
        while True:
            try:
                action()
                return
            except (
                errors.ProgramLimitExceeded,
                errors.InvalidCatalogName,
                errors.InvalidPassword,
                errors.InvalidAuthorizationSpecification,
            ) as error:
                raise PermanentError(f"database: {reason(error)}") from error
            except PASSING as error:
                if (refusal := refused(error)) is not None:
                    raise PermanentError(f"database: {refusal}") from error
                if time.monotonic() > until or self._stopping():
                    raise TransientError(f"database does not answer: {reason(error)}") from error
                self._observer.database_silent(reason(error))
                if self._db is not None and not isinstance(error, errors.TransactionRollback):
                    self._db.close()
            except psycopg.Error as error:
                raise PermanentError(f"database refuses our rows: {reason(error)}") from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MOST_SECONDS)


class UpsertStatements:
    """The statements that write tables: all rows go into one temporary table by one COPY, and from
    there each table takes its own by one INSERT … ON CONFLICT.

    One staging table for all: a flush of few rows is mostly round trips, and emptying a temporary
    table costs as much as filling it.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self._numbers = {table: number for number, table in enumerate(tables)}
        self._columns = {"target": "smallint"}
        for table in tables:
            for name, kind in table.columns.items():
                # JSON travels as text: binary COPY would make a text into a JSON string
                kind = "text" if kind == "jsonb" else kind
                if self._columns.setdefault(name, kind) != kind:
                    raise ValueError(
                        f"{table.name}.{name} is {kind}, elsewhere {self._columns[name]}"
                    )
        self._empty = pl.DataFrame(
            schema={name: KINDS[kind] for name, kind in self._columns.items()}
        )
        made = sql.SQL("CREATE TEMPORARY TABLE staged ({}) ON COMMIT DELETE ROWS").format(
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
        self.prepare = sql.SQL("; ").join([made, *merges])
        self.copy = sql.SQL("COPY staged FROM STDIN (FORMAT BINARY)")

    def staged(self, pending: Mapping[Table, Sequence[Rows]]) -> pl.DataFrame:
        """What is to be written, as rows of the staging table."""
        frames = [
            newest(rows, table).with_columns(pl.lit(self._numbers[table], pl.Int16).alias("target"))
            for table, rows in pending.items()
        ]
        return pl.concat([self._empty, *frames], how="diagonal")

    def into(self, tables: Iterable[Table]) -> str:
        """The statement that moves staged rows into their tables, answers for each how many it
        inserted and wrote, and marks the hours that this changes.

        The mark is the last: the roll-up job holds marks for a moment, and nothing else of ours may
        wait for it.
        """
        moves = [f"EXECUTE merge_{self._numbers[table]}" for table in tables]
        return "; ".join([*moves, "EXECUTE mark"] if self._rolled_up else moves)

    def changes(
        self, cursor: psycopg.Cursor, tables: Iterable[Table], staged: pl.DataFrame
    ) -> dict[str, UpsertCounts]:
        """What became of the staged rows, from the answers to `into`."""
        sent = np.bincount(staged["target"].to_numpy(), minlength=len(self._numbers))
        found = {}
        for table in tables:
            inserted, written = cursor.fetchone() or (0, 0)
            found[table.name] = UpsertCounts(
                inserted, written - inserted, int(sent[self._numbers[table]]) - written
            )
            cursor.nextset()
        return found


def upsert_of(table: Table, number: int) -> sql.Composed:
    others = [sql.Identifier(c) for c in table.columns if c not in table.keys]
    action: sql.Composable = sql.SQL("NOTHING")
    if table.guard is not None:
        changes = [sql.SQL("{0} = excluded.{0}").format(c) for c in others]
        if table.stamp is not None:
            changes.append(sql.SQL("{} = clock_timestamp()").format(sql.Identifier(table.stamp)))
        action = sql.SQL("UPDATE SET {} WHERE excluded.{g} > stored.{g}").format(
            sql.SQL(", ").join(changes), g=sql.Identifier(table.guard)
        )
    # a row that was updated bears the number of the transaction that locked its older self, a new
    # one bears none
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
    """Compose what marks the hours of the rows that were staged for these tables.

    The roll-up job (database/rollup.py) counts marked hours anew.
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
    return sql.SQL(", ").join(
        sql.SQL(form).format(sql.Identifier(c), sql.SQL(t)) for c, t in columns.items()
    )


def newest(parts: Sequence[Rows], table: Table) -> pl.DataFrame:
    """One row a key, the one with the highest guard, in the order of the key (so that two writers
    cannot deadlock).
    """
    frame = parts[0].frame if len(parts) == 1 else pl.concat([part.frame for part in parts])
    if len(parts) == 1 and parts[0].distinct:
        return frame.sort(table.keys)
    if table.guard is None:
        return frame.unique(table.keys, keep="first", maintain_order=True).sort(table.keys)
    return frame.sort([*table.keys, table.guard]).unique(
        table.keys, keep="last", maintain_order=True
    )


def encoded(frame: pl.DataFrame) -> bytes:
    """Rows as PostgreSQL's binary COPY takes them: 0.5 us a row, a seventh of what writing them one
    by one costs.
    """
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    parts = [
        encoder.write_header(),
        *map(encoder.write_batch, table.to_batches()),
        encoder.finish(),
    ]
    return b"".join(parts)
