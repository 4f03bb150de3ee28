"""What happens to the database: each function writes the log line of one observation.

No counters stand beside the lines: migrations and jobs end before Prometheus could read them.
"""

from __future__ import annotations

from datetime import datetime

import structlog

ROLLING_UP = "rolling up"
"""The event that says that the job has begun; `shopstream up` and `demo` wait for it."""


def database_silent(error: str) -> None:
    """Log that an attempt to connect failed and is repeated."""
    structlog.get_logger("database").warning(
        "the database does not answer yet, asking again", error=error
    )


def extension_unusable(error: str) -> None:
    """Log that TimescaleDB cannot be created, so that plain tables are used."""
    structlog.get_logger("migrate").warning(
        "TimescaleDB is installed but cannot be used here", error=error
    )


def not_compressed(table: str, error: str) -> None:
    """Log that the server refused to compress a table, which then stays as it is."""
    structlog.get_logger("migrate").warning("a table is not compressed", table=table, error=error)


def rollup_started(every_seconds: float) -> None:
    """Log that the roll-up job has begun."""
    structlog.get_logger("rollup").info(ROLLING_UP, every_seconds=every_seconds)


def rolled_up(hours: int, rows: int, refused: int) -> None:
    """Log a run of the roll-up, as a warning where changes were refused.

    Units: `refused` counts changed hours whose rows were dropped; their sums stay as they are
    (ops.sealed_changes).
    """
    log = structlog.get_logger("rollup")
    (log.warning if refused else log.info)(
        "rolled up", hours=hours, rows_changed=rows, changes_refused=refused
    )


def old_rows_dropped(amount: str, table: str, before: datetime) -> None:
    """Log what retention dropped from a table, such as `3 chunks`."""
    structlog.get_logger("rollup").info(
        "forgot what is old", what=amount, table=table, before=before.isoformat()
    )


def last_rollup_failed(error: str) -> None:
    """Log that the run at the end of the job failed; its changes stay marked for the next."""
    structlog.get_logger("rollup").warning(
        "not rolled up at the end, the next run does it", error=error
    )
