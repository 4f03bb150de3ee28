"""What happens while the database is made to fit: each function writes the log line of one event. No process serves numbers."""

from __future__ import annotations

import structlog


def database_silent(error: str) -> None:
    structlog.get_logger("migrate").warning("the database does not answer yet, asking again", error=error)


def extension_unusable(error: str) -> None:
    structlog.get_logger("migrate").warning("TimescaleDB is installed but cannot be used here", error=error)


def not_compressed(table: str, error: str) -> None:
    structlog.get_logger("migrate").warning("a table is not compressed", table=table, error=error)
