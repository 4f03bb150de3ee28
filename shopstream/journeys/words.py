"""A journey as a person reads it: when, which steps, the pauses between them, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from flows.domain.text import printable
from shopstream.journeys.sessions import STEPS, Session, SessionEvent, SessionRules, sessions_of

REACHED = ("nothing was viewed", "viewed", "put in the cart", "checked out", "bought")


def told(visitor: str, found: Iterable[SessionEvent], rules: SessionRules) -> Iterator[str]:
    """Write the sessions of a visitor, the pauses between them, and what is of no session."""
    events = list(found)
    sessions = sessions_of(events, rules)
    counted = sum(len(session.events) for session in sessions)
    yield f"{printable(visitor)}: {several(len(sessions), 'session')}, {several(counted, 'event')}"
    for number, session in enumerate(sessions, 1):
        if number > 1:
            pause = session.start_ms - sessions[number - 2].end_ms
            yield f"\n  away for {span(pause)}"
        yield from session_told(number, session)
    others = sorted((e for e in events if not e.counts), key=lambda e: (e.time_ms, e.offset))
    if others:
        yield "\nof no session, since the shop sends it"
        for event in others:
            yield f"  {moment(event.time_ms)}  {step(event.fields)}"


def session_told(number: int, session: Session) -> Iterator[str]:
    """Write one session: whose, its steps with the pauses before them, what came of it."""
    first = session.events[0].fields
    of = ", ".join(
        printable(str(first[name])) for name in ("shop_id", "channel", "device", "country")
    )
    signed_in = f", signed in as {printable(session.customer)}" if session.customer else ""
    yield f"\nsession {number}: {moment(session.start_ms)} UTC, {of}{signed_in}"
    yield f"  {clock(session.start_ms)}            {step(first)}"
    for before, event in pairwise(session.events):
        waited = f"+{span(event.time_ms - before.time_ms)}"
        yield f"  {clock(event.time_ms)} {waited:>10} {step(event.fields)}"
    yield f"  {outcome(session)}"


def outcome(session: Session) -> str:
    """Say what came of a session."""
    reached = ", then ".join(REACHED[1 : session.reached + 1]) or REACHED[0]
    lasted = span(session.end_ms - session.start_ms)
    if session.until_bought_ms is not None:
        came = f"bought {span(session.until_bought_ms)} after it began"
    elif session.reached == len(STEPS) - 1:
        came = "left at the checkout"
    else:
        came = "bought nothing"
    return f"{lasted}: {came}; {'engaged' if session.engaged else 'a bounce'}; in order: {reached}"


def step(fields: Mapping[str, Any]) -> str:
    """Write an event in a line: its type, and what it was about."""
    viewed = fields["page"] if fields["event_type"] == "PAGE_VIEW" else None
    about = fields["search_query"] or viewed
    items = [f"{item['quantity']} x {item['product_id']}" for item in fields["items"]]
    words = [str(about)] if about else items[:3] + (["…"] if len(items) > 3 else [])
    if fields["order_id"]:
        words.append(f"order {fields['order_id']}")
    return f"{fields['event_type']:<17} {printable(', '.join(words))}".rstrip()


def several(number: int, word: str) -> str:
    """Write a number of things."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def moment(time_ms: int) -> str:
    """Write a time with its date."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def clock(time_ms: int) -> str:
    """Write the time of the day."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%H:%M:%S}"


def span(milliseconds: int) -> str:
    """Write a span in its two biggest units."""
    seconds, units = milliseconds // 1000, (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        if seconds >= size or parts or unit == "s":
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts[:2])
