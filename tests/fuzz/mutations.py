"""How a good record is spoilt: its fields before it is written, then its bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.support.web_events import V1, V2, event, item, uuid

Event = dict[str, Any]
KINDS = (
    "PAGE_VIEW",
    "SEARCH",
    "ADD_TO_CART",
    "REMOVE_FROM_CART",
    "CHECKOUT",
    "PURCHASE",
    "REFUND",
    "UNKNOWN",
)
LONGS = (-(2**63), -(2**31), -1, 0, 1, 10**6, 10**7, 10**7 + 1, 10**12, 10**12 + 1, 2**63 - 1)
INTS = (-(2**31), -1, 0, 1, 100_000, 100_001, 2**31 - 1)
ODD = (
    "",
    " ",
    "\0",
    "a\0b",
    "\N{GREEK CAPITAL LETTER SIGMA}",
    "ß",
    "İ",
    "💶",
    "\ufeff",
    "a\nb",
    "'",
)
LENGTHS = {
    "visitor_id": 128,
    "customer_id": 128,
    "shop_id": 64,
    "order_id": 64,
    "page": 2_048,
    "search_query": 256,
    "app_version": 64,
}
OPTIONAL = ("customer_id", "search_query", "order_id", "currency", "app_version", "search_results")
AMOUNTS = ("discount_minor", "tax_minor", "shipping_minor")


def good_event(chance: random.Random, number: int, time: int) -> Event:
    """Make an event that no rule refuses."""
    kind = chance.choice(KINDS[:-1])
    e = event(
        kind,
        event_id=uuid(number),
        event_time=time,
        visitor_id=f"visitor-{chance.randrange(200)}",
        customer_id=chance.choice([None, "c-1", "ü"]),
        shop_id=chance.choice(["main", "outlet"]),
        country=chance.choice(["DE", "FR", "ZZ"]),
        app_version=chance.choice([None, "1.0", "ß"]),
    )
    if kind == "SEARCH":
        e["search_query"] = chance.choice(["shoes", " Shoes", "HATS", "straße"])
    if e["items"]:
        e["items"] = [
            item(
                product_id=f"p-{chance.randrange(30)}",
                category=chance.choice(["shoes", "hats"]),
                quantity=chance.randrange(1, 4),
                unit_price_minor=chance.randrange(100, 5_000),
            )
            for _ in range(chance.choice([1, 1, 1, 2, 5]))
        ]
    return e


def _text(chance: random.Random, e: Event) -> None:
    name = chance.choice(list(LENGTHS))
    most = LENGTHS[name]
    e[name] = chance.choice([*ODD, "x" * most, "x" * (most + 1), "é" * most, "é" * (most + 1)])


def _null(chance: random.Random, e: Event) -> None:
    e[chance.choice(OPTIONAL)] = None


def _shape(chance: random.Random, e: Event) -> None:
    name = chance.choice(["country", "currency"])
    e[name] = chance.choice(["de", "D", "DEU", "EUR", "eur", "€€€", *ODD])


def _id(chance: random.Random, e: Event) -> None:
    e["event_id"] = chance.choice(
        [
            e["event_id"].upper(),
            e["event_id"][:-1],
            e["event_id"] + "0",
            "{" + e["event_id"][1:],
            *ODD,
        ]
    )


def _amount(chance: random.Random, e: Event) -> None:
    e[chance.choice(AMOUNTS)] = chance.choice([None, *LONGS])


def _results(chance: random.Random, e: Event) -> None:
    e["search_results"] = chance.choice([None, *INTS])


def _item(chance: random.Random, e: Event) -> None:
    change: dict[str, Any] = chance.choice(
        [
            {"quantity": chance.choice(INTS)},
            {"unit_price_minor": chance.choice(LONGS)},
            {"product_id": chance.choice([*ODD, "x" * 64, "x" * 65])},
            {"category": chance.choice([*ODD, "x" * 64, "x" * 65])},
        ]
    )
    e["items"] = [*e["items"], item(**change)]


def _items(chance: random.Random, e: Event) -> None:
    e["items"] = [item()] * chance.choice([0, 0, 0, 2, 300])


def _kind(chance: random.Random, e: Event) -> None:
    e["event_type"] = chance.choice(KINDS)


def _time(chance: random.Random, e: Event) -> None:
    e["event_time"] = chance.choice([-(2**63), -1, 0, 946_684_799_999, 946_684_800_000, 2**63 - 1])


FIELDS: tuple[Callable[[random.Random, Event], None], ...] = (
    *(_text, _text, _null, _shape, _id, _amount, _results, _item, _items, _kind, _time),
)


def written(chance: random.Random, e: Event) -> bytes:
    """Write an event in one of the ways that producers may."""
    schema, number = chance.choice([(V2, 2), (V2, 2), (V1, 1)])
    return schema.frame(e) if chance.random() < 0.7 else schema.confluent(e, number)


Bytes = Callable[[bytearray, random.Random, list[bytes]], None]


def _flip(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)


def _overwrite(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    value[chance.randrange(len(value))] = chance.choice(
        [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)]
    )


def _truncate(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    del value[chance.randrange(len(value)) :]


def _insert(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = chance.randrange(len(value) + 1)
    value[at:at] = chance.randbytes(chance.randrange(1, 12))


def _delete(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = chance.randrange(len(value))
    del value[at : at + chance.randrange(1, 12)]


def _splice(value: bytearray, chance: random.Random, pool: list[bytes]) -> None:
    other = chance.choice(pool)
    value[chance.randrange(len(value)) :] = other[chance.randrange(len(other)) :]


BYTES: tuple[Bytes, ...] = (_flip, _flip, _overwrite, _truncate, _insert, _delete, _splice)


def spoilt(value: bytes, chance: random.Random, pool: list[bytes]) -> bytes:
    """Change the bytes of a record once or twice."""
    changed = bytearray(value)
    for _ in range(chance.choice([1, 1, 1, 2])):
        if changed:
            chance.choice(BYTES)(changed, chance, pool)
    return bytes(changed)
