"""Connect to the database, and read its errors as this project's own."""

from __future__ import annotations

import psycopg

from database import log
from flows.connectors import postgres
from flows.connectors.postgres import PASSING, reason
from flows.domain.errors import PermanentError, ShopstreamError, TransientError


def connect(url: str, patience_seconds: float) -> psycopg.Connection:
    """Connect, in autocommit and in UTC; log each attempt that is repeated.

    Errors: PermanentError when the server refuses us, TransientError when it does not answer in
    time.
    """
    return postgres.connect(url, patience_seconds, log.database_silent)


def failure_of(error: psycopg.Error) -> ShopstreamError:
    """Give the error of this project that a database error means for a command.

    Errors: TransientError for what may pass; PermanentError for a broken contract, such as a
    missing table or a missing right, which waiting does not mend.
    """
    if isinstance(error, PASSING):
        return TransientError(f"database: {reason(error)}")
    return broken_contract(error)


def broken_contract(error: psycopg.Error) -> PermanentError:
    """Name what the database lacks, and the command that makes it."""
    return PermanentError(
        f"database: {reason(error)}; run `python -m shopstream migrate`, as the owner"
    )
