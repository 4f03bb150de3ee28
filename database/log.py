"""What happens to the database: each function writes the log line of one observation.

No process serves numbers of them: migrations and jobs come and go.
"""

from __future__ import annotations

from datetime import datetime

import structlog

ROLLING_UP = "rolling up"
"""Says that the job has begun; `shopstream up` and `demo` wait for it."""


def database_silent(error: str) -> None:
    structlog.get_logger("database").warning(
        "the database does not answer yet, asking again", error=error
    )


def extension_unusable(error: str) -> None:
    structlog.get_logger("migrate").warning(
        "TimescaleDB is installed but cannot be used here", error=error
    )


def not_compressed(table: str, error: str) -> None:
    structlog.get_logger("migrate").warning("a table is not compressed", table=table, error=error)


def begun(every_seconds: float) -> None:
    structlog.get_logger("rollup").info(ROLLING_UP, every_seconds=every_seconds)


def rolled_up(hours: int, rows: int, refused: int) -> None:
    """Tell of a run.

    `refused` changes are of windows whose rows were dropped: their sums stay as they are
    (ops.sealed_changes).
    """
    log = structlog.get_logger("rollup")
    (log.warning if refused else log.info)(
        "rolled up", hours=hours, rows_changed=rows, changes_refused=refused
    )


def dropped(what: str, table: str, before: datetime) -> None:
    structlog.get_logger("rollup").info(
        "forgot what is old", what=what, table=table, before=before.isoformat()
    )


def not_rolled_up(error: str) -> None:
    structlog.get_logger("rollup").warning(
        "not rolled up at the end, the next run does it", error=error
    )
