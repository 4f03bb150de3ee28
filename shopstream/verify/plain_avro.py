"""Read records by plain fastavro and the contracts in avro/."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from flows.connectors.avro.contracts import FOLDER

Event = dict[str, Any]
SOURCE = ("source_partition", "source_offset", "source_timestamp", "source_incarnation", "accepted")


def without_source(event: Event) -> Event:
    """Leave out what the clean contract adds to an event."""
    return {name: value for name, value in event.items() if name not in SOURCE}


class PlainAvro:
    """Read raw records as the newest version of a contract, and our own records as they are."""

    def __init__(self, contract: str) -> None:
        self._reader = _parsed(json.loads((FOLDER / f"{contract}.avsc").read_text()))
        self._by_header: dict[bytes, tuple[str, Any]] = {}
        for path in FOLDER.rglob("*.avsc"):
            raw = json.loads(path.read_text())
            self._by_header[b"\xc3\x01" + bytes.fromhex(mark_of(raw))] = mark_of(raw), _parsed(raw)
        for number, name in json.loads((FOLDER / "confluent_ids.json").read_text()).items():
            raw = json.loads((FOLDER / name).read_text())
            header = b"\x00" + int(number).to_bytes(4, "big")
            self._by_header[header] = mark_of(raw), _parsed(raw)

    def writer_of(self, value: bytes | None) -> str | None:
        """Give the fingerprint of the schema that a record names, where it is one of ours."""
        known = self._known(value)
        return None if known is None else known[1]

    def read(self, value: bytes | None) -> Event | None:
        """Read a raw record; None for what a plain reader cannot read to its last byte."""
        return self._read(value, self._reader)

    def read_own(self, value: bytes | None) -> Event | None:
        """Read a record of ours in the schema that it was written with."""
        return self._read(value, None)

    def _read(self, value: bytes | None, reader: Any) -> Event | None:
        known = self._known(value)
        if known is None or value is None:
            return None
        header, _, schema = known
        body = io.BytesIO(value[len(header) :])
        try:
            event = fastavro.schemaless_reader(body, schema, reader)
        except Exception:  # fastavro raises whatever its bytes made it stumble over
            return None
        complete = body.tell() == len(value) - len(header)
        return event if complete and isinstance(event, dict) else None

    def _known(self, value: bytes | None) -> tuple[bytes, str, Any] | None:
        for header in (value[:10], value[:5]) if value else ():
            if header in self._by_header:
                return header, *self._by_header[header]
        return None


def mark_of(raw: Any) -> str:
    """Give the CRC-64-AVRO of a schema, in hex."""
    return fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")


def _parsed(raw: Any) -> Any:
    return fastavro.parse_schema(_plain(raw), named_schemas={})


def _plain(schema: Any) -> Any:
    """Leave out logical types: times as numbers cannot be out of a datetime's range."""
    if isinstance(schema, dict):
        return {k: _plain(v) for k, v in schema.items() if k != "logicalType"}
    return [_plain(s) for s in schema] if isinstance(schema, list) else schema
