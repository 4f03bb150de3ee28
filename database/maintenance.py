"""The job beside the flows: it brings hours and days up to date, and drops what is old."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta
from threading import Event

import psycopg

from database import log
from database.connection import broken_contract, connect
from database.retention import DroppedRows, RetentionPolicy, drop_old_rows
from database.rollup import RollupRun, roll_up
from flows.connectors.postgres import PASSING, reason
from flows.connectors.upserter import PATIENCE_SECONDS
from flows.domain.errors import TransientError
from flows.runtime.settings import Settings

# A run counts whole hours anew. Where hours are so large that this takes seconds, a longer pause
# keeps the job to a tenth of the time of one connection.
BUSY_RATIO = 0.1
RETENTION_EVERY = timedelta(hours=1)
RETRY_SECONDS = 1.0


class MaintenanceJob:
    """Roll up again and again, and apply retention once per hour, until asked to stop.

    State: when retention was applied last, in memory; a restart applies it at once.
    Errors: PermanentError for a broken contract, TransientError when the database stays away.
    """

    def __init__(self, settings: Settings, every_seconds: float, stopping: Event) -> None:
        self._settings = settings
        self._policy = RetentionPolicy.of(settings)
        self._every = every_seconds
        self._stopping = stopping
        self._retention_at: float | None = None

    def run(self) -> None:
        """Work until asked to stop, then roll up once more what was written until then."""
        failing_since: float | None = None
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with closing(
                    connect(self._settings.database_url, self._settings.startup_seconds)
                ) as db:
                    failing_since = None
                    self._work(db)
            except PASSING as error:
                failing_since = failing_since or began
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise TransientError(f"database does not answer: {reason(error)}") from error
                log.database_silent(reason(error))
                self._stopping.wait(RETRY_SECONDS)
            except psycopg.Error as error:
                raise broken_contract(error) from error
        self._roll_up_at_the_end()

    def _work(self, db: psycopg.Connection) -> None:
        """Work on one connection, for as long as it lasts."""
        while not self._stopping.is_set():
            began = time.monotonic()
            _log_rollup(roll_up(db))
            if self._is_retention_due(began):
                _log_dropped(drop_old_rows(db, self._policy))
                self._retention_at = began
            took = time.monotonic() - began
            self._stopping.wait(max(self._every - took, took / BUSY_RATIO - took))

    def _is_retention_due(self, now: float) -> bool:
        last = self._retention_at
        return last is None or now - last > RETENTION_EVERY.total_seconds()

    def _roll_up_at_the_end(self) -> None:
        try:
            with closing(connect(self._settings.database_url, 1.0)) as db:
                _log_rollup(roll_up(db))
        except (psycopg.Error, TransientError) as error:
            log.last_rollup_failed(reason(error))


def _log_rollup(run: RollupRun) -> None:
    if run.rows or run.refused:
        log.rolled_up(run.hours, run.rows, run.refused)


def _log_dropped(dropped: list[DroppedRows]) -> None:
    for rows in dropped:
        log.old_rows_dropped(rows.amount, rows.table, rows.before)
