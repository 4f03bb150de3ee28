"""Seeded traffic with every fault, for stacks: keys and values, and what a test needs to aim at."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.support.web_events import V1, V2, event, item, uuid

KINDS = (
    "PAGE_VIEW",
    "PAGE_VIEW",
    "SEARCH",
    "ADD_TO_CART",
    "REMOVE_FROM_CART",
    "CHECKOUT",
    "PURCHASE",
    "REFUND",
)


def good_events(count: int, seed: int = 1, start: int | None = None) -> Iterator[dict[str, Any]]:
    """Make events over the last minutes of real time, a little out of order.

    Time: Kafka stamps them with its own clock, and they must be no future.
    """
    chance = random.Random(seed)
    begin = time.time_ns() // 1_000_000 - 200_000 if start is None else start
    for i in range(count):
        kind = chance.choice(KINDS)
        changes: dict[str, Any] = {
            "search_query": chance.choice(["shoes", " Shoes", "HATS", "straße"]),
            "search_results": chance.randrange(3),
        }
        if kind != "SEARCH":
            changes = {
                "items": [
                    item(
                        product_id=f"p-{chance.randrange(9)}",
                        quantity=chance.randrange(1, 4),
                        unit_price_minor=chance.randrange(5_000),
                    )
                    for _ in range(chance.randrange(1, 4))
                ],
                "discount_minor": 0,
            }
        if kind in ("PURCHASE", "REFUND"):
            changes |= {
                "currency": chance.choice(["EUR", "GBP", "USD"]),
                "tax_minor": chance.choice([None, 19]),
            }
        time_of_it = begin + i * 180_000 // count - chance.randrange(5_000)
        visitor = f"visitor-{chance.randrange(60)}"
        yield event(
            kind,
            event_id=uuid(chance.getrandbits(128)),
            event_time=time_of_it,
            visitor_id=visitor,
            shop_id=chance.choice(["main", "outlet"]),
            country=chance.choice(["DE", "FR", "ZZ"]),
            **changes,
        )


def mixed(count: int, seed: int = 1) -> list[tuple[bytes | None, bytes | None]]:
    """Make records of which about a third have a fault.

    Each reject code is there, repeats and conflicts, both framings, both versions of the schema.
    """
    chance = random.Random(seed)
    records: list[tuple[bytes | None, bytes | None]] = []
    for i, e in enumerate(good_events(count, seed)):
        key: bytes | None = e["visitor_id"].encode()
        writers = (
            V2.frame,
            V1.frame,
            partial(V2.confluent, number=2),
            partial(V1.confluent, number=1),
        )
        value = writers[i % 4 if i % 3 == 0 else 0](e)
        fault = chance.randrange(60)
        cut = chance.randrange(1, len(value))
        broken = damaged(fault, e, value, cut) if fault != 13 or i % 7 == 0 else value
        records.append((None if fault == 11 else key, broken))
        if fault == 16:
            records.append((key, value))
        if fault == 17:
            records.append((key, V2.frame(e | {"country": "AT"})))
        if fault == 18 and len(records) > 50:
            records.append(records[-40])
    return records


CHANGES: dict[int, dict[str, Any]] = {
    2: {"country": "de", "shop_id": "a\0b"},
    3: {
        "items": [item(product_id="", quantity=0, unit_price_minor=-1)],
        "search_query": "  ",
    },
    13: {"page": "x" * 300_000},
    14: {"event_time": 2**62},
    15: {"tax_minor": 2**63 - 1},
}
BYTES: dict[int, bytes | None] = {
    6: b"junk",
    7: b"\xc3\x01" + b"?" * 20,
    10: V2.header + b"\xff" * 11,
    11: None,
    12: b"",
}
SHIFTS = {0: -120_000, 1: 10_000_000}


def damaged(fault: int, e: dict[str, Any], value: bytes, cut: int) -> bytes | None:
    """Give the record with its fault; most numbers are none."""
    if fault in SHIFTS:
        return V2.frame(e | {"event_time": e["event_time"] + SHIFTS[fault]})
    if fault in CHANGES:
        return V2.frame(e | CHANGES[fault])
    if fault in BYTES:
        return BYTES[fault]
    if fault == 4:
        return value[:cut]
    if fault == 5:
        return value + b"!"
    if fault == 8:
        return b"\0\0\0\0\x63" + value[10:]
    if fault == 9:
        return V2.header + b"\x48" + b"\xff" * 36 + value[47:]
    return value
