"""Connect to the database, saying so while it does not answer yet."""

from __future__ import annotations

import psycopg

from database import log
from flows.connectors import postgres


def connect(url: str, patience_seconds: float) -> psycopg.Connection:
    """Connect, in autocommit and in UTC.

    Errors: PermanentError when the server refuses us, TransientError when it does not answer in
    time.
    """
    return postgres.connect(url, patience_seconds, log.database_silent)
