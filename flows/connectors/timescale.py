"""Upsert rows into PostgreSQL, with or without TimescaleDB.

Delivery guarantees: at-least-once, idempotent. A row replaces the stored one only when its guard is higher, so a replay
writes nothing until it passes what is stored. All tables of a flush are one transaction. Back pressure: while the
database is away the flow waits.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, LiteralString

import polars as pl
import psycopg
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from psycopg import errors, sql

from flows.domain.errors import PermanentError, TransientError
from flows.domain.tables import Rows, Table

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.1
RETRY_MOST_SECONDS = 5.0
# a database that was away for longer has an operator at work: the supervisor then starts the flow anew
PATIENCE_SECONDS = 600.0
# waiting helps: connection lost, server starting or stopping, deadlock, serialization, lock timeout, out of memory or disk
PASSING = (
    psycopg.OperationalError, psycopg.InterfaceError, errors.TransactionRollback, errors.InsufficientResources,
    errors.OperatorIntervention, errors.ObjectNotInPrerequisiteState,
)  # fmt: skip


class TimescaleSink(FixedPartitionedSink[Any, None]):
    """Tables as a sink. `take` turns the newest item into the rows to write, and is asked again at each epoch's end.

    Time: writes when an item has `caught_up`, else at most every `busy_seconds`.
    """

    def __init__(
        self, url: str, take: Callable[[Any], Iterable[Rows]], stopping: Callable[[], bool], startup_seconds: float = 30.0,
        busy_seconds: float = 1.0,
    ) -> None:  # fmt: skip
        self._arguments = (url, take, stopping, startup_seconds, busy_seconds)
        self.writer: Writer | None = None

    def list_parts(self) -> list[str]:
        return ["timescale"]

    def open(self) -> Writer:
        """Connect; what is wrong shows here, before the flow runs."""
        if self.writer is None:
            self.writer = Writer(*self._arguments)
        return self.writer

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Writer:
        return self.open()


class Writer(StatefulSinkPartition[Any, None]):
    """Errors: TransientError when the database stays away too long, PermanentError for a broken contract."""

    def __init__(
        self, url: str, take: Callable[[Any], Iterable[Rows]], stopping: Callable[[], bool], startup_seconds: float,
        busy_seconds: float,
    ) -> None:  # fmt: skip
        self._url = url
        self._take = take
        self._stopping = stopping
        self._busy_seconds = busy_seconds
        self._pending: dict[str, list[Rows]] = {}
        self._item: Any = None
        self._written = time.monotonic()
        self._db: psycopg.Connection | None = None
        self._staged: set[str] = set()
        self._retry(lambda: self._connection().execute("SELECT 1"), startup_seconds)

    def write_batch(self, items: list[Any]) -> None:
        self._item = items[-1]
        if self._item.caught_up or time.monotonic() - self._written >= self._busy_seconds:
            self.flush()

    def snapshot(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Return when everything that was counted is committed."""
        if self._item is not None:
            for rows in self._take(self._item):
                self._pending.setdefault(rows.table.name, []).append(rows)
        self._written = time.monotonic()
        if self._pending:
            self._retry(self._write, PATIENCE_SECONDS)
            self._pending = {}

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _write(self) -> None:
        db = self._connection()
        with db.transaction(), db.cursor() as cursor:
            for parts in self._pending.values():
                self._stage(cursor, parts[0].table)
                upsert(cursor, parts[0].table, newest([p.frame for p in parts], parts[0].table))

    def _stage(self, cursor: psycopg.Cursor, table: Table) -> None:
        """Make the temporary table, once a connection."""
        if table.name not in self._staged:
            cursor.execute(Upsert.into(table).stage)
            self._staged.add(table.name)

    def _connection(self) -> psycopg.Connection:
        if self._db is None or self._db.closed:
            self._staged = set()
            # TCP keep-alive and a user timeout: a database that vanished without a word is noticed in seconds
            self._db = psycopg.connect(
                self._url, autocommit=True, connect_timeout=5, keepalives_idle=5, keepalives_interval=2,
                keepalives_count=3, tcp_user_timeout=15_000, options="-c timezone=UTC", application_name="shopstream",
            )  # fmt: skip
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
                raise PermanentError(f"database: {first_line(error)}") from error
            except PASSING as error:
                if (refusal := refused(error)) is not None:
                    raise PermanentError(f"database: {refusal}") from error
                if time.monotonic() > until or self._stopping():
                    raise TransientError(f"database does not answer: {first_line(error)}") from error
                log.warning("database does not answer, trying again: %s", first_line(error))
                self._staged = set()  # what a transaction made goes with it
                if self._db is not None and not isinstance(error, errors.TransactionRollback):
                    self._db.close()
            except psycopg.Error as error:
                raise PermanentError(f"database refuses our rows: {first_line(error)}") from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MOST_SECONDS)


def refused(error: psycopg.Error) -> str | None:
    """What the server said when it was there but would not let us in; a failed connection carries no SQLSTATE."""
    text = str(error)
    known = ("does not exist", "authentication failed", "no pg_hba.conf entry", "permission denied")
    return first_line(error) if error.sqlstate is None and any(k in text for k in known) and "FATAL" in text else None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1 if "FATAL" in str(error) else 0]


def newest(frames: list[pl.DataFrame], table: Table) -> pl.DataFrame:
    """One row a key, the one with the highest guard, in the order of the key (so that two writers cannot deadlock)."""
    frame = frames[0] if len(frames) == 1 else pl.concat(frames)
    keys = list(table.keys)
    if table.guard is None:
        return frame.unique(keys, keep="first", maintain_order=True).sort(keys)
    return frame.sort([*keys, table.guard]).unique(keys, keep="last", maintain_order=True)


@dataclass(frozen=True)
class Upsert:
    """The statements that write a table: stage, copy, merge."""

    table: Table
    stage: sql.Composed
    copy: sql.Composed
    merge: sql.Composed
    types: list[str]

    @classmethod
    @cache
    def into(cls, table: Table) -> Upsert:
        # JSON travels as text: binary COPY would make a text into a JSON string
        kinds = {c: "text" if t == "jsonb" else t for c, t in table.columns.items()}
        staged = sql.Identifier("staged_" + table.name.replace(".", "_"))
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        others = [sql.Identifier(c) for c in table.columns if c not in table.keys]
        action: sql.Composable = sql.SQL("NOTHING")
        if table.guard is not None:
            action = sql.SQL("UPDATE SET {} WHERE excluded.{g} > stored.{g}").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(c) for c in others),
                g=sql.Identifier(table.guard),
            )
        return cls(
            table,
            sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
                staged, typed(kinds, "{} {}")
            ),
            sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(staged, columns),
            sql.SQL("INSERT INTO {} AS stored ({}) SELECT {} FROM {} ON CONFLICT ({}) DO {}").format(
                sql.Identifier(*table.name.split(".")), columns, typed(table.columns, "{}::{}"), staged,
                sql.SQL(", ").join(map(sql.Identifier, table.keys)), action,
            ),
            list(kinds.values()),
        )  # fmt: skip


def typed(columns: dict[str, str], form: LiteralString) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(c), sql.SQL(t)) for c, t in columns.items())


def upsert(cursor: psycopg.Cursor, table: Table, frame: pl.DataFrame) -> None:
    """Binary COPY into a temporary table, then one INSERT … ON CONFLICT: 92-142 k rows/s, twice executemany's."""
    how = Upsert.into(table)
    with cursor.copy(how.copy) as copy:
        copy.set_types(how.types)
        for row in frame.select(list(table.columns)).iter_rows():
            copy.write_row(row)
    cursor.execute(how.merge)
