"""`shopstream journeys show`: what a visitor did, read back from the clean topic."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from flows.domain.placement import partition_of
from tests.support.stack import PARTITIONS, Stack
from tests.support.web_events import NOON, V2, event, item, uuid

MINUTE = 60_000
VISITOR = "visitor-7"


def show(stack: Stack, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "shopstream", "journeys", "show", *words]
    return stack.exit_of(stack.run("journeys", command)), stack.log("journeys")


@pytest.mark.parametrize("form", ["event", "batch"])
def test_a_journey_is_told_with_its_pauses_and_what_came_of_it(stack: Stack, form: str) -> None:
    walk: list[tuple[int, str, dict[str, Any]]] = [
        (0, "PAGE_VIEW", {"page": "/"}),
        (65, "ADD_TO_CART", {"items": [item(quantity=2)]}),
        (100, "CHECKOUT", {"items": []}),
        (130, "PURCHASE", {"customer_id": "c-9"}),
        (200, "REFUND", {}),
        (130 + 1_800, "SEARCH", {"search_query": "red shoes"}),
    ]
    records = [
        event(kind, event_id=uuid(n), event_time=NOON + 1000 * at, visitor_id=VISITOR, **fields)
        for n, (at, kind, fields) in enumerate(walk, 1)
    ]
    other = event("PAGE_VIEW", event_id=uuid(99), visitor_id="visitor-8")
    place = partition_of(VISITOR.encode(), PARTITIONS)
    sent = [*records, records[0]]  # one comes twice
    stack.produce([(VISITOR.encode(), V2.frame(e)) for e in sent], partition=place)
    stack.produce([(b"visitor-8", V2.frame(other))], partition=(place + 1) % PARTITIONS)
    flows = stack.start_all(SHOPSTREAM_CLEAN_FORM=form)
    stack.drain()
    stack.terminate(*flows.values())
    code, text = show(stack, VISITOR)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert code == 0, text
    assert lines[0] == "visitor-7: 2 sessions, 5 events"
    assert any(line.endswith("DE, signed in as c-9") for line in lines)
    assert any("+1 min 5 s ADD_TO_CART 2 x p-1" in line for line in lines)
    assert (
        "2 min 10 s: bought 2 min 10 s after it began; engaged; in order: viewed, then put in the"
        " cart, then checked out, then bought" in lines
    )
    assert "away for 30 min 0 s" in lines
    assert any("SEARCH red shoes" in line for line in lines)
    assert "0 s: bought nothing; a bounce; in order: nothing was viewed" in lines
    assert lines[lines.index("of no session, since the shop sends it") + 1].split()[2] == "REFUND"
    code, text = show(stack, "nobody")
    assert (code, text.splitlines()[-1].startswith("no event of 'nobody' in partition")) == (
        1,
        True,
    )


def test_an_event_in_another_partition_is_found_everywhere(stack: Stack) -> None:
    place = partition_of(VISITOR.encode(), PARTITIONS)
    for n in range(PARTITIONS):
        other = event("PAGE_VIEW", event_id=uuid(n + 1), visitor_id=f"visitor-{n}{n}")
        stack.produce([(b"x", V2.frame(other))], partition=n)
    astray = event("PAGE_VIEW", event_id=uuid(50), visitor_id=VISITOR, shop_id="a\x1b[31mb")
    stack.produce([(b"x", V2.frame(astray))], partition=(place + 1) % PARTITIONS)
    flows = stack.start_all()
    stack.drain()
    stack.terminate(*flows.values())
    assert show(stack, VISITOR)[0] == 1
    code, text = show(stack, VISITOR, "--everywhere")
    assert code == 0, text
    assert "visitor-7: 1 session, 1 event" in text
    assert "\x1b" not in text, "what a visitor sent must not steer a terminal"
    assert (
        show(stack, "nobody", "--everywhere")[1]
        .splitlines()[-1]
        .startswith("no event of 'nobody' in any partition")
    )
