"""Whether a flow gets on: red when it makes no progress while records wait. Pure: the time is told,
not asked.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Green or red, and why in one line."""

    healthy: bool
    line: str


class Health:
    """Judge by what is done and what waits.

    Time: `now` is any clock that only goes forward, in seconds; the flow has `patience_seconds`
    from the last progress, or from the last moment without work.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._done = -1
        self._waiting = 0
        self._since: float | None = None

    def observe(self, now: float, done: int, waiting: int) -> None:
        """Hear what is done (a number that grows) and how many records wait."""
        if done != self._done or not waiting or self._since is None:
            self._since = now
        self._done, self._waiting = done, waiting

    def verdict(self, now: float, where: str) -> Verdict:
        """`where` names what the flow was last seen at."""
        if self._since is None:
            return Verdict(False, f"starting, at {where}")
        still = now - self._since
        if self._waiting and still > self._patience:
            return Verdict(
                False,
                f"no progress for {still:.0f} s at {where}, while {self._waiting:,} records wait",
            )
        return Verdict(
            True, f"ok: {self._waiting:,} records wait" if self._waiting else "ok: nothing waits"
        )
