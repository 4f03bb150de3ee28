"""Whether a flow makes progress, and what it is at."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flows.domain.batch import Batch


class Activity:
    """What the flow's own thread is at, for those who read it from another one.

    State: the batch that goes through the steps, what is done with it, when the loop last came
    round, and how many records were found lost. Single values, each replaced as a whole, so no lock
    is needed.
    """

    def __init__(self) -> None:
        self.where = "the start"
        self.batch: Batch | None = None
        self.turned = time.monotonic()
        self.lost = 0

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Map each partition to the first and last offset of the batch in hand."""
        batch = self.batch
        if batch is None:
            return {}
        lasts = batch.last_offsets
        return {p: (first, lasts[p]) for p, first in batch.first_offsets.items()}


@dataclass(frozen=True)
class Verdict:
    """Green or red, and why in one line."""

    healthy: bool
    line: str


class Health:
    """Judge whether a flow is stuck: it makes no progress while records wait.

    Time: `now` is any clock that only goes forward, in seconds. The flow has `patience_seconds`
    from the last progress, or from the last moment without work.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._progress = -1
        self._waiting = 0
        self._since: float | None = None

    def observe(self, now: float, progress: int, waiting: int) -> None:
        """Take the progress (a number that grows) and how many records wait."""
        if progress != self._progress or not waiting or self._since is None:
            self._since = now
        self._progress, self._waiting = progress, waiting

    def verdict(self, now: float, where: str, lost: int = 0) -> Verdict:
        """Give the verdict; `where` names what the flow was last seen at.

        A flow that goes on without `lost` records is healthy, and says so.
        """
        if self._since is None:
            return Verdict(False, f"starting, at {where}")
        still = now - self._since
        if self._waiting and still > self._patience:
            return Verdict(
                False,
                f"no progress for {still:.0f} s at {where}, while {self._waiting:,} records wait",
            )
        told = f"ok: {self._waiting:,} records wait" if self._waiting else "ok: nothing waits"
        if lost:
            told += f"; {lost:,} records were gone before they were read (ops.losses)"
        return Verdict(True, told)
