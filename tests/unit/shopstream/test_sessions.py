"""What a session is, to the millisecond, and what came of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopstream.journeys.sessions import SessionEvent, SessionRules, sessions_of

MINUTE = 60_000
RULES = SessionRules(30 * MINUTE, 24 * 60 * MINUTE)


def event(time_ms: int, kind: str = "PAGE_VIEW", offset: int = 0, **fields: Any) -> SessionEvent:
    return SessionEvent(
        time_ms, offset, {"event_type": kind, "device": "MOBILE", "customer_id": None} | fields
    )


def times(events: list[SessionEvent], rules: SessionRules = RULES) -> list[list[int]]:
    return [[e.time_ms for e in session.events] for session in sessions_of(events, rules)]


@pytest.mark.parametrize(
    ("pause", "sessions"), [(30 * MINUTE - 1, 1), (30 * MINUTE, 2), (30 * MINUTE + 1, 2)]
)
def test_a_pause_of_the_gap_or_more_begins_a_session(pause: int, sessions: int) -> None:
    assert len(times([event(0), event(pause)])) == sessions


def test_a_session_that_is_as_old_as_allowed_is_cut() -> None:
    rules = SessionRules(gap_ms=10, longest_ms=25)
    walk = [event(t) for t in range(0, 60, 5)]
    assert times(walk, rules) == [
        [0, 5, 10, 15, 20],
        [25, 30, 35, 40, 45],
        [50, 55],
    ]


def test_midnight_and_another_channel_cut_nothing() -> None:
    midnight = 86_400_000
    assert times([event(midnight - 1), event(midnight, channel="ADS")]) == [
        [midnight - 1, midnight]
    ]


def test_events_of_a_moment_are_in_the_order_of_the_log() -> None:
    bought = [event(5, "PURCHASE", 9), event(5, "CHECKOUT", 8), event(5, "PAGE_VIEW", 7)]
    (session,) = sessions_of(bought, RULES)
    assert [e.kind for e in session.events] == ["PAGE_VIEW", "CHECKOUT", "PURCHASE"]


def test_what_the_shop_sends_is_no_part_of_a_visit() -> None:
    assert sessions_of([event(0, "REFUND"), event(1, "PURCHASE", device="POS")], RULES) == []
    assert times([event(0), event(20 * MINUTE, "REFUND"), event(40 * MINUTE)]) == [
        [0],
        [40 * MINUTE],
    ]


@pytest.mark.parametrize(
    ("events", "engaged"),
    [
        ([event(0)], False),
        ([event(0), event(10_000, "SEARCH")], False),
        ([event(0), event(10_001, "SEARCH")], True),
        ([event(0), event(1)], True),
        ([event(0, "PURCHASE")], True),
    ],
)
def test_engaged_is_what_ga4_calls_so(events: list[SessionEvent], engaged: bool) -> None:
    (session,) = sessions_of(events, RULES)
    assert session.engaged is engaged


@pytest.mark.parametrize(
    ("kinds", "reached"),
    [
        ("PAGE_VIEW ADD_TO_CART CHECKOUT PURCHASE", 4),
        ("PAGE_VIEW CHECKOUT PURCHASE", 1),
        ("ADD_TO_CART PAGE_VIEW ADD_TO_CART", 2),
        ("PURCHASE", 0),
        ("PAGE_VIEW PAGE_VIEW ADD_TO_CART SEARCH CHECKOUT PAGE_VIEW PURCHASE", 4),
    ],
)
def test_a_step_counts_after_the_one_before_it(kinds: str, reached: int) -> None:
    (session,) = sessions_of([event(n, k) for n, k in enumerate(kinds.split())], RULES)
    assert session.reached == reached


def test_a_session_is_of_the_account_that_was_last_signed_in() -> None:
    accounts = [None, "c-1", "c-2", None]
    (session,) = sessions_of([event(n, customer_id=c) for n, c in enumerate(accounts)], RULES)
    assert session.customer == "c-2"


def test_the_time_to_a_purchase_is_that_to_the_first() -> None:
    (session,) = sessions_of([event(5), event(9, "PURCHASE"), event(20, "PURCHASE")], RULES)
    assert session.until_bought_ms == 4
    (other,) = sessions_of([event(5)], RULES)
    assert other.until_bought_ms is None


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 99)), max_size=30), st.randoms())
def test_every_event_is_in_one_session_whatever_the_order(
    places: list[tuple[int, int]], chance: Any
) -> None:
    rules = SessionRules(gap_ms=20, longest_ms=90)
    events = [event(time, offset=offset) for time, offset in dict.fromkeys(places)]
    sessions = sessions_of(events, rules)
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert sessions_of(shuffled, rules) == sessions
    flat = [(e.time_ms, e.offset) for s in sessions for e in s.events]
    assert flat == sorted((e.time_ms, e.offset) for e in events)
    for session in sessions:
        assert session.end_ms - session.start_ms < rules.longest_ms
        moments = [e.time_ms for e in session.events]
        assert all(b - a < rules.gap_ms for a, b in pairwise(moments))
    for before, after in pairwise(sessions):
        assert (
            after.start_ms - before.end_ms >= rules.gap_ms
            or after.start_ms - before.start_ms >= rules.longest_ms
        )
