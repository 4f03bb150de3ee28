"""How far each flow is behind its topic, read from its consumer group as any other tool would."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from flows.registry import BY_NAME, UPSTREAM_FIRST
from flows.runtime.settings import Settings
from shopstream.kafka.groups import TIMEOUT_SECONDS, Group


def topics_of(settings: Settings) -> dict[str, str]:
    """Give the topic that each flow reads, in the order in which records pass."""
    return {flow: getattr(settings, BY_NAME[flow].reads) for flow in UPSTREAM_FIRST}


@dataclass(frozen=True)
class Lag:
    """Records that a flow has not yet committed, and all that its topic holds."""

    records: int
    total: int


class Lags:
    """Ask the broker for the lag of every flow.

    Errors: TransientError when it does not answer.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._closing = ExitStack()
        self._groups = {
            flow: self._closing.enter_context(Group(settings, BY_NAME[flow], timeout_seconds))
            for flow in UPSTREAM_FIRST
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def of(self, flow: str) -> Lag:
        """Ask for the lag of one flow."""
        places = self._groups[flow].places()
        # without a commit, all that the topic holds is behind
        return Lag(
            sum(place.high - max(place.resume, place.low) for place in places),
            sum(place.high - place.low for place in places),
        )

    def all(self) -> dict[str, Lag]:
        """Ask for every flow's lag, upstream first.

        When all are 0, everything that was there before has gone through.
        """
        return {flow: self.of(flow) for flow in self._groups}
