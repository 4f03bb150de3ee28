"""What happens to the process of a flow: each method writes the log line and the number of one
event.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from flows.domain.errors import ShopstreamError
from flows.runtime.telemetry import names
from flows.runtime.telemetry.activity import Activity
from flows.runtime.telemetry.instruments import Instruments

FAILED = "the flow has failed"


class ProcessObserver:
    """Listens to the process around a flow."""

    def __init__(self, numbers: Instruments, activity: Activity, log: Any) -> None:
        self._numbers, self._activity, self._log = numbers, activity, log

    def started(self, version: str, commit: str, address: str | None) -> None:
        self._numbers.series(names.START_TIME).set(time.time())
        self._numbers.series(names.BUILD_INFO, version, commit).set(1)
        self._log.info("starting", version=version, commit=commit, telemetry=address)

    def stalled(self, why: str) -> None:
        self._log.warning("unhealthy", why=why, offsets=self._activity.offsets())

    def recovered(self, why: str) -> None:
        self._log.info("healthy", why=why)

    def stopped(self) -> None:
        self._log.info("stopped: everything is flushed and committed")

    def last_commit_failed(self, error: Exception) -> None:
        self._log.error("the last commit failed, its records will be read again", error=str(error))
        logging.shutdown()

    def failed(self, error: ShopstreamError) -> None:
        """A stop that we foresaw, in a line."""
        self._log.error(
            FAILED,
            error=f"{type(error).__name__}: {error}",
            exit_code=error.exit_code,
            offsets=self._activity.offsets(),
        )
        logging.shutdown()

    def broken(self, error: BaseException) -> None:
        """A bug, with its trace."""
        self._log.critical(
            FAILED, error=repr(error), exit_code=1, offsets=self._activity.offsets(), exc_info=error
        )
        logging.shutdown()
