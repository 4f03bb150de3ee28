"""What happens to the records of a flow: each method writes the numbers, and now and then the log
line, of one event.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flows.connectors.avro.readers import ReadRows
from flows.domain.cleaning import Cleaned
from flows.domain.codes import Code, Outcome
from flows.domain.counting import Counted
from flows.domain.judge import VERDICTS
from flows.runtime.telemetry import names
from flows.runtime.telemetry.activity import Activity
from flows.runtime.telemetry.instruments import Instruments
from flows.runtime.telemetry.sink_observer import SinkObserver

X = TypeVar("X")
Y = TypeVar("Y")
# a line a batch would bury the others: refused records are told together
REFUSED_EVERY_SECONDS = 10.0


class FlowObserver:
    """Listens to the steps of a flow."""

    def __init__(
        self, numbers: Instruments, sinks: SinkObserver, activity: Activity, log: Any
    ) -> None:
        self._numbers, self._sinks, self._activity, self._log = numbers, sinks, activity, log
        self._outcomes = {outcome: numbers.series(names.RECORDS, outcome) for outcome in Outcome}
        self._codes = {code: numbers.series(names.REFUSED, code) for code in Code}
        self._untold: Counter[str] = Counter()
        self._told_at = time.monotonic()

    def step(
        self, name: str, work: Callable[[X], Y], then: Callable[[Y], None] | None = None
    ) -> Callable[[X], Y]:
        """Time a step, and tell what came out of it; batches without records would only drown the
        others.
        """
        seconds, activity = self._numbers.series(names.STEP_SECONDS, name), self._activity

        def timed(item: X) -> Y:
            if activity.batch is None:
                return work(item)
            activity.where = f"the step {name}"
            began = time.perf_counter()
            made = work(item)
            seconds.observe(time.perf_counter() - began)
            if then is not None:
                then(made)
            activity.where = "a sink"
            return made

        return timed

    def cleaned(self, cleaned: Cleaned) -> None:
        """Clean has judged a batch."""
        for (outcome, code), n in zip(VERDICTS, cleaned.counts.tolist(), strict=True):
            if n:
                self._outcomes[outcome].inc(n)
                if code:
                    self._refused(Code(code), n)
        self._tell_refused()

    def counted(self, counted: Counted) -> None:
        """Metrics has counted a batch."""
        self._outcomes[Outcome.ACCEPTED].inc(len(counted.timestamps))
        self._outcomes[Outcome.DUPLICATE].inc(counted.repeated)
        self._sinks.counted(counted.timestamps)
        self._unreadable(counted.refused)

    def read(self, read: ReadRows) -> None:
        """A reader has made rows of a batch."""
        self._outcomes[Outcome.ACCEPTED].inc(len(read.batch) - len(read.refused))
        self._unreadable([refusal.code for refusal in read.refused])

    def _unreadable(self, codes: Iterable[Code]) -> None:
        for code in codes:
            self._outcomes[Outcome.REJECTED].inc()
            self._refused(code, 1)
        self._tell_refused()

    def _refused(self, code: Code, records: int) -> None:
        self._codes[code].inc(records)
        self._untold[code] += records

    def _tell_refused(self) -> None:
        now = time.monotonic()
        if self._untold and now - self._told_at > REFUSED_EVERY_SECONDS:
            codes, self._untold, self._told_at = dict(self._untold), Counter(), now
            self._log.info(
                "records were refused, and are dead letters",
                codes=codes,
                offsets=self._activity.offsets(),
            )
