"""Upsert rows into PostgreSQL, with or without TimescaleDB.

Delivery: at-least-once, idempotent. A row replaces the stored one only when its guard is higher, so
a replay writes nothing until it passes what is stored. All tables of a flush are one transaction.
Back-pressure: while the database is away, the flow waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from psycopg import errors

from flows.connectors.observers import NULL_OBSERVER, TableObserver, UpsertCounts
from flows.connectors.places import Places
from flows.connectors.postgres import PASSING, reason, refused
from flows.connectors.records import Pulled
from flows.connectors.upserts import UpsertStatements, encoded
from flows.domain.errors import PermanentError, TransientError
from flows.domain.tables import Rows, Table

# Pauses double from the first to the longest, so a flow goes on within five seconds after the
# database is back.
RETRY_SECONDS = 0.1
RETRY_MOST_SECONDS = 5.0
# A database that is away for longer needs an operator: the flow stops with an error that says so,
# and the supervisor starts it again.
PATIENCE_SECONDS = 600.0
# An idle flow asks its database so often whether it is still there.
LOOK_SECONDS = 5.0
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
