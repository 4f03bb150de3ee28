"""What happens to the records and to the process of a flow: one method per observation."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from flows.connectors.avro.readers import ReadRows
from flows.domain.cleaning import Cleaned
from flows.domain.codes import VERDICTS, Code, Outcome
from flows.domain.counting import Counted
from flows.domain.errors import ShopstreamError
from flows.domain.judge import Judged
from flows.runtime.telemetry import names
from flows.runtime.telemetry.connector_observers import SinkObserver
from flows.runtime.telemetry.health import Activity
from flows.runtime.telemetry.instruments import Instruments

X = TypeVar("X")
Y = TypeVar("Y")
# a line per batch would bury the others: refused records are reported together
REFUSED_EVERY_SECONDS = 10.0
FAILED = "the flow has failed"


class FlowObserver:
    """Observe the steps of a flow."""

    def __init__(
        self,
        instruments: Instruments,
        sinks: SinkObserver,
        activity: Activity,
        log: FilteringBoundLogger,
    ) -> None:
        self._instruments, self._sinks = instruments, sinks
        self._activity, self._log = activity, log
        self._outcomes = {o: instruments.series(names.RECORDS, o) for o in Outcome}
        self._codes = {code: instruments.series(names.REFUSED, code) for code in Code}
        self._unreported: Counter[str] = Counter()
        self._reported_at = time.monotonic()
        self._misplaced: Callable[[Judged], tuple[int, int]] | None = None
        self._told_of_misplaced = False

    def watch_placement(self, misplaced: Callable[[Judged], tuple[int, int]]) -> None:
        """Look at where events lie, from now on: see domain/placement.py."""
        self._misplaced = misplaced
        for place in ("right", "wrong"):
            self._instruments.series(names.PLACED, place)  # 0 is a number too

    def step(
        self, name: str, work: Callable[[X], Y], then: Callable[[Y], None] | None = None
    ) -> Callable[[X], Y]:
        """Time a step, and observe what came out of it by `then`."""
        seconds, activity = self._instruments.series(names.STEP_SECONDS, name), self._activity

        def timed(item: X) -> Y:
            # the many batches without records would only drown the others
            if activity.batch is None:
                return work(item)
            activity.where = f"the step {name}"
            began = time.perf_counter()
            result = work(item)
            seconds.observe(time.perf_counter() - began)
            if then is not None:
                then(result)
            activity.where = "a sink"
            return result

        return timed

    def cleaned(self, cleaned: Cleaned) -> None:
        """Note that clean has judged a batch."""
        for (outcome, code), count in zip(VERDICTS, cleaned.counts.tolist(), strict=True):
            if count:
                self._outcomes[outcome].inc(count)
                if code:
                    self._refused(Code(code), count)
        self._report_refused()
        self._look_at_places(cleaned.judged)

    def _look_at_places(self, judged: Judged) -> None:
        if self._misplaced is None:
            return
        looked_at, wrong = self._misplaced(judged)
        self._instruments.series(names.PLACED, "right").inc(looked_at - wrong)
        self._instruments.series(names.PLACED, "wrong").inc(wrong)
        if wrong and not self._told_of_misplaced:
            self._told_of_misplaced = True
            self._log.warning(
                "events are in other partitions than their keys': who sends them may be counted"
                " twice (docs/runbook.md#misplaced-events)",
                looked_at=looked_at,
                wrong=wrong,
                offsets=self._activity.offsets(),
            )

    def counted(self, counted: Counted) -> None:
        """Note that metrics has counted a batch."""
        self._outcomes[Outcome.ACCEPTED].inc(len(counted.timestamps))
        self._outcomes[Outcome.DUPLICATE].inc(counted.repeated)
        self._sinks.counted(counted.timestamps)
        self._unreadable(counted.refused)

    def read(self, read: ReadRows) -> None:
        """Note that a reader has made rows of a batch."""
        self._outcomes[Outcome.ACCEPTED].inc(len(read.batch) - len(read.refused))
        self._unreadable([refusal.code for refusal in read.refused])

    def _unreadable(self, codes: Iterable[Code]) -> None:
        for code in codes:
            self._outcomes[Outcome.REJECTED].inc()
            self._refused(code, 1)
        self._report_refused()

    def _refused(self, code: Code, records: int) -> None:
        self._codes[code].inc(records)
        self._unreported[code] += records

    def _report_refused(self) -> None:
        now = time.monotonic()
        if self._unreported and now - self._reported_at > REFUSED_EVERY_SECONDS:
            codes, self._unreported, self._reported_at = dict(self._unreported), Counter(), now
            self._log.info(
                "records were refused, and are dead letters",
                codes=codes,
                offsets=self._activity.offsets(),
            )


class ProcessObserver:
    """Observe the process around a flow."""

    def __init__(
        self, instruments: Instruments, activity: Activity, log: FilteringBoundLogger
    ) -> None:
        self._instruments, self._activity, self._log = instruments, activity, log

    def started(self, version: str, commit: str, address: str | None) -> None:
        """Note that the process begins, and what it runs."""
        self._instruments.series(names.START_TIME).set(time.time())
        self._instruments.series(names.BUILD_INFO, version, commit).set(1)
        self._log.info("starting", version=version, commit=commit, telemetry=address)

    def stalled(self, why: str) -> None:
        """Note that the flow is stuck."""
        self._log.warning("unhealthy", why=why, offsets=self._activity.offsets())

    def recovered(self, why: str) -> None:
        """Note that the flow makes progress again."""
        self._log.info("healthy", why=why)

    def stopped(self) -> None:
        """Note an end as it should be."""
        self._log.info("stopped: everything is flushed and committed")

    def last_commit_failed(self, error: Exception) -> None:
        """Note that a drain could not be completed."""
        self._log.error("the last commit failed, its records will be read again", error=str(error))
        logging.shutdown()

    def failed(self, error: ShopstreamError) -> None:
        """Note a stop that was foreseen, in one line."""
        self._log.error(
            FAILED,
            error=f"{type(error).__name__}: {error}",
            exit_code=error.exit_code,
            offsets=self._activity.offsets(),
        )
        logging.shutdown()

    def broken(self, error: BaseException) -> None:
        """Note a bug, with its trace."""
        self._log.critical(
            FAILED, error=repr(error), exit_code=1, offsets=self._activity.offsets(), exc_info=error
        )
        logging.shutdown()
