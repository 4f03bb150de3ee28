"""What happens while hours and days are kept up: each function writes the log line of one event."""

from __future__ import annotations

from datetime import datetime

import structlog

ROLLING_UP = "rolling up"
"""The event that says that the job has begun; `shopstream up` and `demo` wait for it."""


def begun(every_seconds: float) -> None:
    structlog.get_logger("rollup").info(ROLLING_UP, every_seconds=every_seconds)


def rolled_up(hours: int, rows: int, refused: int) -> None:
    """`refused` changes are of windows whose rows were dropped: their sums stay as they are (ops.sealed_changes)."""
    log = structlog.get_logger("rollup")
    (log.warning if refused else log.info)("rolled up", hours=hours, rows_changed=rows, changes_refused=refused)


def forgot(what: str, table: str, before: datetime) -> None:
    structlog.get_logger("rollup").info("forgot what is old", what=what, table=table, before=before.isoformat())


def database_silent(error: str) -> None:
    structlog.get_logger("rollup").warning("the database does not answer, trying again", error=error)


def not_rolled_up(error: str) -> None:
    structlog.get_logger("rollup").warning("not rolled up at the end, the next run does it", error=error)
