"""Write rows to PostgreSQL in one transaction, and again when it was away.

Back-pressure: while the database is away, a write waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

from flows.connectors.observers import TableObserver, UpsertCounts
from flows.connectors.places import Places
from flows.connectors.postgres import PASSING, reason, refused
from flows.connectors.upserts import UpsertStatements
from flows.domain.errors import PermanentError, TransientError
from flows.domain.tables import AnyRows, Table

# Pauses double from the first to the longest, so a flow goes on within five seconds after the
# database is back.
RETRY_SECONDS = 0.1
RETRY_MOST_SECONDS = 5.0
# A database that is away for longer needs an operator: the flow stops with an error that says so,
# and the supervisor starts it again.
PATIENCE_SECONDS = 600.0
NOT_LET_IN = (
    errors.InvalidCatalogName,
    errors.InvalidPassword,
    errors.InvalidAuthorizationSpecification,
)

Pending = Mapping[Table, Sequence[AnyRows]]
"""Rows that wait to be written, by table."""


@dataclass(frozen=True)
class Database:
    """A database: its URL, how long to wait for it at start, and between writes in a backlog.

    `places` are held against each new connection: the database may be another one.
    """

    url: str
    startup_seconds: float = 30.0
    busy_seconds: float = 1.0
    places: Places | None = None


class Upserter:
    """Upsert rows.

    Only one thread may use it at a time.
    Errors: TransientError when the database stays away too long, PermanentError for a broken
    contract.
    """

    def __init__(
        self,
        database: Database,
        statements: UpsertStatements,
        stopping: Callable[[], bool],
        observer: TableObserver,
    ) -> None:
        self._database = database
        self._statements = statements
        self._stopping = stopping
        self._observer = observer
        self._db: psycopg.Connection | None = None
        self._was_let_in = False

    def look(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Ask whether the database is there, and still the one that it was."""
        self._retry(lambda: self._connection().execute("SELECT 1"), patience_seconds)

    def write(self, pending: Pending) -> dict[str, UpsertCounts]:
        """Write rows, and return when they are committed: table -> what became of its rows."""
        changes: dict[str, UpsertCounts] = {}

        def attempt() -> None:
            changes.clear()
            for part in self._statements.parts(pending):
                self._write_part(part, changes)

        self._retry(attempt, PATIENCE_SECONDS)
        if self._database.places is not None:
            self._database.places.committed()
        return changes

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()

    def _write_part(self, part: Pending, changes: dict[str, UpsertCounts]) -> None:
        db = self._connection()
        staged = self._statements.staged(part)
        with db.transaction(), db.cursor() as cursor:
            with cursor.copy(self._statements.copy) as copy:
                copy.write(staged.copy)
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
