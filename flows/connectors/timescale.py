"""Upsert rows into PostgreSQL, with or without TimescaleDB.

Delivery: at-least-once, idempotent. A row replaces the stored one only when its guard is higher, so
a replay writes nothing until it passes what is stored. All tables of a flush are one transaction.
Back-pressure: while the database is away, the flow waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, LiteralString, Protocol

import numpy as np
import polars as pl
import psycopg
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import errors, sql

from flows.connectors.observers import NULL_OBSERVER, TableObserver, UpsertCounts
from flows.connectors.places import Places
from flows.connectors.postgres import PASSING, identifier, identifiers, reason, refused
from flows.connectors.records import Pulled
from flows.domain.errors import PermanentError, TransientError
from flows.domain.rollups import ROLLED_UP
from flows.domain.tables import Rows, Table

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
# Pauses double from the first to the longest, so a flow goes on within five seconds after the
# database is back.
RETRY_SECONDS = 0.1
RETRY_MOST_SECONDS = 5.0
# A database that is away for longer needs an operator: the flow stops with an error that says so,
# and the supervisor starts it again.
PATIENCE_SECONDS = 600.0
# An idle flow asks its database so often whether it is still there.
LOOK_SECONDS = 5.0
# A chunk takes a dozen locks, and a server of default settings has 6,400 (docs/adr/013).
MOST_DAYS = 50
NOT_LET_IN = (
    errors.InvalidCatalogName,
    errors.InvalidPassword,
    errors.InvalidAuthorizationSpecification,
)


class HasRows(Protocol):
    """An item on the edge to a table."""

    @property
    def rows(self) -> Sequence[Rows]:
        """Give the rows of the item."""

    @property
    def caught_up(self) -> bool:
        """Say whether the poll brought all that the topic has."""


@dataclass(frozen=True)
class Database:
    """A database: its URL, how long to wait for it at start, and between writes in a backlog.

    `places` are held against each new connection: the database may be another one.
    """

    url: str
    startup_seconds: float = 30.0
    busy_seconds: float = 1.0
    places: Places | None = None


class TimescaleSink(FixedPartitionedSink[Any, None]):
    """Write items that have rows to tables.

    With `pulled`, each flush also writes the rows that it gives.

    Time: writes when an item has `caught_up`, else at most once per `busy_seconds`: in a backlog
    each write would be replaced by the next.
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
        """Connect, so that a wrong setting or schema shows before the flow runs."""
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
        self._written = self._talked = time.monotonic()
        self._db: psycopg.Connection | None = None
        self._changes: dict[str, UpsertCounts] = {}
        self._was_let_in = False
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
        """Write everything at the end of an epoch: offsets are committed after it."""
        self.flush()

    def flush(self) -> None:
        """Write all that waits, and return when it is committed."""
        # nothing can have changed before the first item
        if self._pulled is not None and self._may_pull:
            self._hold(self._pulled.take())
        self._written = time.monotonic()
        if not self._pending and self._written - self._talked > LOOK_SECONDS:
            # A database that was restored while nobody wrote must be found out, too.
            self._retry(lambda: self._connection().execute("SELECT 1"), PATIENCE_SECONDS)
            self._talked = self._written
        if self._pending:
            self._talked = self._written
            with self._observer.flushing("database"):
                self._retry(self._write, PATIENCE_SECONDS)
            self._pending = {}
            if self._database.places is not None:
                self._database.places.committed()
            self._observer.rows_committed(self._changes)

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()

    def _write(self) -> None:
        changes: dict[str, UpsertCounts] = {}
        for part in self._statements.parts(self._pending):
            self._write_part(part, changes)
        self._changes = changes

    def _write_part(
        self, part: Mapping[Table, Sequence[Rows]], changes: dict[str, UpsertCounts]
    ) -> None:
        db = self._connection()
        staged = self._statements.staged(part)
        with db.transaction(), db.cursor() as cursor:
            with cursor.copy(self._statements.copy) as copy:
                copy.write(encoded(staged))
            cursor.execute(self._statements.into(part))
            written = self._statements.changes(cursor, part, staged)
        for table, counts in written.items():
            changes[table] = changes[table] + counts if table in changes else counts

    def _connection(self) -> psycopg.Connection:
        if self._db is None or self._db.closed:
            # Keep-alive and a user timeout of TCP: without them a connection whose other end is
            # gone without a reset blocks for a quarter of an hour; with them, for 15 seconds.
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
                # Else psycopg prepares statements of its own, and after a rollback it deallocates
                # all of them, also those prepared below.
                prepare_threshold=None,
            )
            self._db.execute(self._statements.prepare)
            if self._database.places is not None:
                self._database.places.check(self._db)
            self._was_let_in = True
        return self._db

    def _retry(self, action: Callable[[], Any], patience_seconds: float) -> None:
        """Repeat an action while its errors can pass, with capped, jittered pauses."""
        until = time.monotonic() + patience_seconds
        pause = RETRY_SECONDS
        while True:
            try:
                action()
                return
            except errors.ProgramLimitExceeded as error:
                # an OperationalError, as PASSING has them, but no wait mends it
                raise PermanentError(f"database: {reason(error)}") from error
            except PASSING as error:
                # A server that let us in before has another reason to refuse us: it is being
                # restored, or fails over, or its passwords are being changed.
                if not self._was_let_in and (
                    isinstance(error, NOT_LET_IN) or refused(error) is not None
                ):
                    raise PermanentError(f"database: {reason(error)}") from error
                if time.monotonic() > until or self._stopping():
                    raise TransientError(f"database does not answer: {reason(error)}") from error
                self._observer.database_silent(reason(error))
                # a deadlock or a serialization failure has rolled back; the connection is sound
                if self._db is not None and not isinstance(error, errors.TransactionRollback):
                    self._db.close()
            except psycopg.Error as error:
                raise PermanentError(f"database refuses our rows: {reason(error)}") from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MOST_SECONDS)


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
        self, pending: Mapping[Table, Sequence[Rows]]
    ) -> Iterator[Mapping[Table, Sequence[Rows]]]:
        """Cut a flush into transactions of at most MOST_DAYS days.

        Each chunk of each table needs locks, of which a server has some thousands: years of daily
        events in one transaction would need more. What says how far the flow is comes last, in the
        transaction of the newest rows.
        """
        windows = {t: rows for t, rows in pending.items() if "window_start" in t.columns}
        days = sorted(
            {
                day
                for rows in windows.values()
                for part in rows
                for day in part.frame["window_start"].dt.truncate("1d").unique().to_list()
            }
        )
        for i in range(0, max(len(days) - MOST_DAYS, 0), MOST_DAYS):
            yield _between(windows, None if i == 0 else days[i], days[i + MOST_DAYS])
        if len(days) <= MOST_DAYS:
            yield pending
            return
        last = (len(days) - 1) // MOST_DAYS * MOST_DAYS
        rest = {t: rows for t, rows in pending.items() if t not in windows}
        yield {**_between(windows, days[last], None), **rest}

    def staged(self, pending: Mapping[Table, Sequence[Rows]]) -> pl.DataFrame:
        """Give what is to be written as rows of the staging table."""
        frames = [
            newest(rows, table).with_columns(pl.lit(self._numbers[table], pl.Int16).alias("target"))
            for table, rows in pending.items()
        ]
        return pl.concat([self._empty, *frames], how="diagonal")

    def into(self, tables: Iterable[Table]) -> str:
        """Compose the statement that moves staged rows into their tables, and marks their hours.

        Shape: one result per table: how many rows it inserted, and how many it wrote in all.
        """
        # The marks come last: the roll-up job locks marks for a moment, and writing rows is not to
        # wait for that.
        moves = [f"EXECUTE merge_{self._numbers[table]}" for table in tables]
        return "; ".join([*moves, "EXECUTE mark"] if self._rolled_up else moves)

    def changes(
        self, cursor: psycopg.Cursor, tables: Iterable[Table], staged: pl.DataFrame
    ) -> dict[str, UpsertCounts]:
        """Say what became of the staged rows, from the results of `into`."""
        sent = np.bincount(staged["target"].to_numpy(), minlength=len(self._numbers))
        counts = {}
        for table in tables:
            inserted, written = cursor.fetchone() or (0, 0)
            counts[table.name] = UpsertCounts(
                inserted, written - inserted, int(sent[self._numbers[table]]) - written
            )
            cursor.nextset()
        return counts


def _between(
    pending: Mapping[Table, Sequence[Rows]], since: datetime | None, until: datetime | None
) -> dict[Table, list[Rows]]:
    """Take the rows of the windows that start in `[since, until)`."""
    start = pl.col("window_start")
    wanted = pl.lit(True)
    if since is not None:
        wanted &= start >= since
    if until is not None:
        wanted &= start < until
    chosen = {
        table: [replace(part, frame=part.frame.filter(wanted)) for part in rows]
        for table, rows in pending.items()
    }
    return {t: rows for t, rows in chosen.items() if any(len(part.frame) for part in rows)}


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


def newest(parts: Sequence[Rows], table: Table) -> pl.DataFrame:
    """Give one row per key, the one with the highest guard, ordered by key.

    One per key, because ON CONFLICT cannot update a row twice in a statement; ordered, because two
    writers that lock rows in the same order cannot deadlock.
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
    """Encode rows for PostgreSQL's binary COPY."""
    # 0.5 us per row, a seventh of what psycopg's `write_row` takes
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    parts = [
        encoder.write_header(),
        *map(encoder.write_batch, table.to_batches()),
        encoder.finish(),
    ]
    return b"".join(parts)
