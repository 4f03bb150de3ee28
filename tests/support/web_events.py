"""Web events for the tests: a good one of each type, and its bytes in any version and framing.

Plain fastavro writes and reads them.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from flows.runtime.paths import ROOT

AVRO = ROOT / "avro"
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)


def raw_schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((AVRO / name).read_text())
    return schema


def without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    return [without_logical_types(s) for s in schema] if isinstance(schema, list) else schema


def header(schema: dict[str, Any]) -> bytes:
    return b"\xc3\x01" + bytes.fromhex(
        fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    )


def parsed(schema: dict[str, Any]) -> Any:
    """For plain numbers as times: no event time is out of range for fastavro."""
    return fastavro.parse_schema(without_logical_types(schema), named_schemas={})


class Version:
    """A schema file of `avro/`. `write` gives the body, `frame` puts a header before it."""

    def __init__(self, path: str) -> None:
        self.raw = raw_schema(path)
        self.parsed = parsed(self.raw)
        self.header = header(self.raw)

    def write(self, record: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.parsed, record)
        return out.getvalue()

    def frame(self, record: dict[str, Any]) -> bytes:
        return self.header + self.write(record)

    def confluent(self, record: dict[str, Any], number: int) -> bytes:
        return b"\x00" + number.to_bytes(4, "big") + self.write(record)

    def read(self, value: bytes) -> dict[str, Any]:
        assert value.startswith(self.header)
        record = fastavro.schemaless_reader(io.BytesIO(value[10:]), self.parsed, None)
        assert isinstance(record, dict)
        return record


V1, V2 = Version("history/web_event.v1.avsc"), Version("history/web_event.v2.avsc")
CLEAN, CLEAN_BATCH = Version("clean_web_event.avsc"), Version("clean_web_batch.avsc")
LETTER, OUTCOME, RULE = (
    Version("dead_letter.avsc"),
    Version("outcome_tally.avsc"),
    Version("rule_tally.avsc"),
)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def item(**changes: Any) -> dict[str, Any]:
    return {
        "product_id": "p-1",
        "category": "shoes",
        "quantity": 2,
        "unit_price_minor": 1250,
    } | changes


def event(kind: str = "PURCHASE", **changes: Any) -> dict[str, Any]:
    """Make a good event of the kind."""
    ordered, basket = kind in ("PURCHASE", "REFUND"), kind not in ("SEARCH", "UNKNOWN")
    return {
        "event_id": uuid(1),
        "event_type": kind,
        "event_time": NOON,
        "visitor_id": "visitor-1",
        "customer_id": None,
        "shop_id": "main",
        "page": "/p/1",
        "channel": "DIRECT",
        "search_query": "shoes" if kind == "SEARCH" else None,
        "search_results": 3 if kind == "SEARCH" else None,
        "order_id": "order-1" if ordered else None,
        "currency": "EUR" if ordered else None,
        "discount_minor": 100 if ordered else None,
        "tax_minor": None,
        "shipping_minor": None,
        "device": "MOBILE",
        "country": "DE",
        "items": [item()] if basket else [],
        "app_version": "1.2.3",
    } | changes
