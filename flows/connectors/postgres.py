"""Connect to PostgreSQL, quote names, and read errors: what every client of it shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psycopg
from psycopg import errors, sql

from flows.domain.errors import PermanentError, TransientError

# Between attempts to connect at a start: nobody notices half a second beside the seconds that a
# server takes to come up.
RETRY_SECONDS = 0.5

# Waiting helps: connection lost, server starting or stopping, deadlock, serialization, lock
# timeout, out of memory or disk.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.TransactionRollback,
    errors.InsufficientResources,
    errors.OperatorIntervention,
    errors.ObjectNotInPrerequisiteState,
    # a standby before it is promoted, or a provider's answer to a full disk
    errors.ReadOnlySqlTransaction,
)

# What a server says when it is there but does not let us in.
_REFUSALS = (
    "does not exist",
    "authentication failed",
    "no pg_hba.conf entry",
    "permission denied",
)


def connect(
    url: str, patience_seconds: float, on_retry: Callable[[str], None]
) -> psycopg.Connection:
    """Connect, in autocommit and in UTC; `on_retry` is called with why an attempt is repeated.

    Errors: PermanentError when the server refuses us, TransientError when it does not answer in
    time.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            return psycopg.connect(
                url, autocommit=True, connect_timeout=5, options="-c timezone=UTC"
            )
        except psycopg.OperationalError as error:
            if (refusal := refused(error)) is not None:
                raise PermanentError(f"database: {refusal}") from error
            if time.monotonic() > until:
                raise TransientError(f"database does not answer: {reason(error)}") from error
            on_retry(reason(error))
            time.sleep(RETRY_SECONDS)


def identifier(name: str) -> sql.Identifier:
    """Quote `schema.table` as an identifier."""
    return sql.Identifier(*name.split("."))


def identifiers(columns: Iterable[str]) -> sql.Composed:
    """Quote column names as a list."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def refused(error: psycopg.Error) -> str | None:
    """Give why a server that answered did not let us in; None for every other error."""
    # A failed connection carries no SQLSTATE, so only its text can tell.
    text = str(error)
    is_refusal = error.sqlstate is None and "FATAL" in text and any(r in text for r in _REFUSALS)
    return reason(error) if is_refusal else None


def reason(error: Exception) -> str:
    """Give the one line of an error that says what is wrong, and where."""
    # libpq ends with a question ("Is the server running on that host ...?"); the line before names
    # host and port. With several addresses it lists an attempt per line: the server's own word, if
    # there is one, says most.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    for marker in ("FATAL", "failed:"):
        if telling := [line for line in lines if marker in line]:
            return telling[-1]
    return lines[0]
