"""Sessions: what one visitor does until a long pause, and what came of it.

The definitions, one visitor at a time, as plainly as they can be said. Sources: the pause of 30
minutes "or more" is Universal Analytics'; that midnight and campaigns cut nothing, and *engaged*,
are GA4's; the longest session and the ordered funnel are PostHog's.

Time: Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

# what the shop does, or a till, is no part of a visit
NOT_OF_A_SESSION = {"REFUND"}
NOT_OF_A_SESSION_DEVICES = {"POS"}
STEPS = ("PAGE_VIEW", "ADD_TO_CART", "CHECKOUT", "PURCHASE")
ENGAGED_MS, ENGAGED_VIEWS = 10_000, 2


@dataclass(frozen=True)
class SessionRules:
    """A session ends before a pause of `gap_ms` or more, and before it is `longest_ms` old."""

    gap_ms: int
    longest_ms: int


@dataclass(frozen=True)
class SessionEvent:
    """An event of a visitor, and its fields as the contract has them."""

    time_ms: int
    offset: int
    fields: Mapping[str, object]

    @property
    def kind(self) -> str:
        """Give the type of the event."""
        return str(self.fields["event_type"])

    @property
    def counts(self) -> bool:
        """Say whether it is part of a session."""
        return (
            self.kind not in NOT_OF_A_SESSION
            and self.fields["device"] not in NOT_OF_A_SESSION_DEVICES
        )


@dataclass(frozen=True)
class Session:
    """The events of a session, in their order; never none."""

    events: tuple[SessionEvent, ...]

    @property
    def start_ms(self) -> int:
        """Give when it began."""
        return self.events[0].time_ms

    @property
    def end_ms(self) -> int:
        """Give when its last event was."""
        return self.events[-1].time_ms

    def count(self, kind: str) -> int:
        """Count its events of a type."""
        return sum(event.kind == kind for event in self.events)

    @property
    def customer(self) -> str | None:
        """Give the account that was last signed in."""
        known = [event.fields["customer_id"] for event in self.events]
        return next((str(customer) for customer in reversed(known) if customer is not None), None)

    @property
    def converted(self) -> bool:
        """Say whether something was bought."""
        return self.count("PURCHASE") > 0

    @property
    def engaged(self) -> bool:
        """Say whether it lasted more than ten seconds, had two views, or something was bought."""
        lasted = self.end_ms - self.start_ms > ENGAGED_MS
        return lasted or self.count("PAGE_VIEW") >= ENGAGED_VIEWS or self.converted

    @property
    def until_bought_ms(self) -> int | None:
        """Give the time from its start to its first purchase; None without one."""
        times = (event.time_ms for event in self.events if event.kind == "PURCHASE")
        first = next(times, None)
        return None if first is None else first - self.start_ms

    @property
    def reached(self) -> int:
        """Count the steps that were taken in their order, each after the one before it."""
        state = 0
        for event in self.events:
            if state < len(STEPS) and event.kind == STEPS[state]:
                state += 1
        return state


def sessions_of(events: Iterable[SessionEvent], rules: SessionRules) -> list[Session]:
    """Split the events of one visitor, whatever their order.

    Events are taken by time; those of the same moment by offset.
    """
    ordered = sorted((e for e in events if e.counts), key=lambda e: (e.time_ms, e.offset))
    if not ordered:
        return []
    sessions = [[ordered[0]]]
    for before, event in pairwise(ordered):
        paused = event.time_ms - before.time_ms >= rules.gap_ms
        too_long = event.time_ms - sessions[-1][0].time_ms >= rules.longest_ms
        if paused or too_long:
            sessions.append([event])
        else:
            sessions[-1].append(event)
    return [Session(tuple(part)) for part in sessions]
