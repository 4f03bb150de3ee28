"""Records by hand, by plain fastavro, for drills whose log no generator makes."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Iterator
from functools import cache
from typing import Any
from uuid import UUID

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from flows.connectors.avro.contracts import FOLDER
from flows.registry import BY_NAME
from shopstream.drills.stage import Stage
from shopstream.kafka.groups import Group

Raw = tuple[bytes | None, bytes | None]
"""Key and value of a record."""


@cache
def contract(name: str) -> tuple[bytes, Any]:
    """Give the header of a contract's records, and the schema as fastavro wants it."""
    raw = json.loads((FOLDER / f"{name}.avsc").read_text())
    mark = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
    return b"\xc3\x01" + bytes.fromhex(mark), fastavro.parse_schema(raw, named_schemas={})


def framed(event: dict[str, Any], name: str = "web_event") -> bytes:
    """Encode a record with its header."""
    header, schema = contract(name)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, event)
    return header + out.getvalue()


def unframed(value: bytes, name: str = "web_event") -> dict[str, Any]:
    """Decode a record that `framed` made."""
    header, schema = contract(name)
    event = fastavro.schemaless_reader(io.BytesIO(value[len(header) :]), schema, None)
    assert isinstance(event, dict)
    return event


def now_ms() -> int:
    """Give the time of this machine."""
    return time.time_ns() // 1_000_000


def view(number: int, visitor: str, time_ms: int, **changes: Any) -> dict[str, Any]:
    """Make a page view."""
    return {
        "event_id": str(UUID(int=number)),
        "event_type": "PAGE_VIEW",
        "event_time": time_ms,
        "visitor_id": visitor,
        "customer_id": None,
        "shop_id": "main",
        "page": "/",
        "channel": "DIRECT",
        "search_query": None,
        "search_results": None,
        "order_id": None,
        "currency": None,
        "discount_minor": None,
        "tax_minor": None,
        "shipping_minor": None,
        "device": "MOBILE",
        "country": "DE",
        "items": [],
        "app_version": None,
    } | changes


def purchase(number: int, visitor: str, time_ms: int, **changes: Any) -> dict[str, Any]:
    """Make a purchase of one item."""
    item = {"product_id": "p-1", "category": "shoes", "quantity": 1, "unit_price_minor": 1250}
    order = {
        "event_type": "PURCHASE",
        "order_id": f"o-{number}",
        "currency": "EUR",
        "discount_minor": 0,
        "items": [item],
    }
    return view(number, visitor, time_ms) | order | changes


def keyed(event: dict[str, Any]) -> Raw:
    """Give the record of an event."""
    return event["visitor_id"].encode(), framed(event)


def skewed(count: int, seed: int) -> list[tuple[int, bytes, bytes]]:
    """Make a busy visitor in partition 0; 1 is five minutes behind, 3 has nothing."""
    chance = random.Random(seed)
    begin = now_ms() - 60_000
    made = []
    for i in range(count):
        place = chance.choices((0, 1, 2), (2, 1, 1))[0]
        visitor = (
            "busy" if place == 0 and chance.random() < 0.6 else f"{place}-{chance.randrange(50)}"
        )
        at = begin + i * 50_000 // count - (300_000 if place == 1 else 0)
        event = (purchase if chance.random() < 0.2 else view)(seed * 2**40 + i, visitor, at)
        made.append((place, visitor.encode(), framed(event)))
    return made


def heartbeats(count: int, seed: int) -> Iterator[list[Raw]]:
    """Make one id with ever new content, ten times per lateness, among others."""
    begin = now_ms() - count * 1_000
    portion: list[Raw] = []
    for i in range(count):
        at = begin + i * 1_000
        portion.append(keyed(view(0, "heart", at, page=f"/beat/{i}")))
        portion += [keyed(view(seed * 2**40 + 10 * i + n, f"v{n}", at)) for n in range(1, 10)]
        if len(portion) >= 1_000:
            yield portion
            portion = []
    yield portion


def rewind_lengths(stage: Stage) -> dict[str, int]:
    """Give how many records each flow has to read again at a start, in all partitions."""
    lengths = {}
    for flow in ("clean", "metrics"):
        with Group(stage.settings, BY_NAME[flow]) as group:
            checkpoints = [place.commit.checkpoint for place in group.places()]
        lengths[flow] = sum(c.resume - c.rewind for c in checkpoints if c is not None)
    return lengths


def at_limits(seed: int) -> list[Raw]:
    """Make values and keys at, below and above the limits of flows and brokers."""
    made: list[Raw] = []
    at = now_ms() - 5_000
    most = 262_144
    for number, size in enumerate((most - 1, most, most + 1, 900_000), seed * 2**40):
        event = view(number, "large", at, page="")
        value = framed(event | {"page": "x" * (size - len(framed(event)) - 4)})
        made.append((b"large", value))
    sizes = (1, 2_000, 60_000, 900_000)
    made += [(b"k" * size, framed(view(7 + size, f"v{size}", at))) for size in sizes]
    made += [(b"v", b""), (b"v", None), (None, None), (b"", b"\xc3\x01")]
    made.append(keyed(view(seed * 2**40 + 99, "after", at)))
    return made


def bombs() -> list[Raw]:
    """Make megabytes that compress to little, so that a broker's limit lets them pass."""
    return [(b"bomb", bytes(6_000_000)), (bytes(1_200_000), b"bomb")]


def crowd(visitors: int, seed: int) -> list[Raw]:
    """Make events of as many visitors, of which every tenth buys another product."""
    at = now_ms() - 20_000
    made = []
    for i in range(visitors):
        number, visitor = seed * 2**40 + 1_000 + i, f"v-{i}"
        if i % 10:
            made.append(keyed(view(number, visitor, at)))
        else:
            item = {"product_id": f"p-{i}", "category": "c", "quantity": 1, "unit_price_minor": 5}
            made.append(keyed(purchase(number, visitor, at, items=[item])))
    return made


def daily(days: int, seed: int) -> list[Raw]:
    """Make a view and a purchase on each of the last days, oldest first."""
    begin = now_ms() - days * 86_400_000
    made = []
    for day in range(days):
        at = begin + day * 86_400_000
        number = seed * 2**40 + 2 * day
        made += [keyed(view(number, "v", at)), keyed(purchase(number + 1, "v", at + 1_000))]
    return made


def clean_event(number: int, place: tuple[int, int], time_ms: int, **changes: Any) -> bytes:
    """Make a record of the clean topic, of a raw partition and offset."""
    partition, offset = place
    source = {
        "source_partition": partition,
        "source_offset": offset,
        "source_timestamp": time_ms,
        "source_incarnation": 0,
        "accepted": offset + 1,
    }
    return framed(purchase(number, "foreign", time_ms) | source | changes, "clean_web_event")
