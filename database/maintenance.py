"""RetentionPolicy hours and days up to date, and forget what is old: what runs beside the flows,
for as long as they run.
"""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta
from threading import Event

import psycopg

from database import log
from database.connection import connect
from database.retention import Dropped, RetentionPolicy, forget
from database.rollup import Rolled, roll_up
from flows.connectors.postgres import PASSING, reason
from flows.connectors.timescale import PATIENCE_SECONDS
from flows.domain.errors import PermanentError, TransientError
from flows.domain.rollups import Grain
from flows.runtime.settings import Settings

# a run recounts whole hours: where they are so large that this takes long, they are brought up to
# date less often
MOST_SHARE = 0.1
RETENTION_EVERY = timedelta(hours=1)
RETRY_SECONDS = 1.0


def keep(settings: Settings) -> RetentionPolicy:
    """What retention is to keep, by the settings."""
    by_grain = {
        Grain.MINUTE: settings.retention_1m_days,
        Grain.HOUR: settings.retention_1h_days,
        Grain.DAY: settings.retention_1d_days,
    }
    return RetentionPolicy(by_grain, settings.retention_dead_letters_days)


class Upkeep:
    """Roll up every so often, and forget once an hour. Errors: PermanentError, TransientError."""

    def __init__(self, settings: Settings, every_seconds: float, stopping: Event) -> None:
        self._settings = settings
        self._every = every_seconds
        self._stopping = stopping
        self._forgotten_at: float | None = None

    def run(self) -> None:
        """Work until asked to stop; then once more, so that what was written before is in the hours
        and days.
        """
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
        self._once_more()

    def _work(self, db: psycopg.Connection) -> None:
        """With one connection, for as long as it lasts."""
        while not self._stopping.is_set():
            began = time.monotonic()
            say(roll_up(db))
            if (
                self._forgotten_at is None
                or began - self._forgotten_at > RETENTION_EVERY.total_seconds()
            ):
                say_forgotten(forget(db, keep(self._settings)))
                self._forgotten_at = began
            took = time.monotonic() - began
            self._stopping.wait(max(self._every - took, took / MOST_SHARE - took))

    def _once_more(self) -> None:
        try:
            with closing(connect(self._settings.database_url, 1.0)) as db:
                say(roll_up(db))
        except (psycopg.Error, TransientError) as error:
            log.not_rolled_up(reason(error))


def broken_contract(error: psycopg.Error) -> PermanentError:
    """What waiting does not mend: a missing table, a missing right."""
    return PermanentError(
        f"database: {reason(error)}; run `python -m shopstream migrate`, as the owner"
    )


def say(done: Rolled) -> None:
    if done.rows or done.refused:
        log.rolled_up(done.hours, done.rows, done.refused)


def say_forgotten(gone: list[Dropped]) -> None:
    for one in gone:
        log.dropped(one.what, one.table, one.before)
