"""The event contracts in `avro/`, and which of them a record's first bytes name.

Two framings are on the wire: Avro single-object (`C3 01`, then the little-endian CRC-64-AVRO of the
writer schema) and Confluent's (`00`, then a 4-byte id). The ids come from the registry when one is
set, else from `avro/confluent_ids.json`.

Source: https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPException
from typing import Any

import fastavro
import pyarrow as pa
import pyruhvro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from flows.connectors.avro.contracts import FOLDER
from flows.domain.errors import TransientError

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"
# pyruhvro panics on these ("not implemented"), see its README; such schemas take the fastavro path
UNSUPPORTED = {"bytes", "fixed", "uuid", "decimal"}
REGISTRY_SECONDS = 10
# for so long an id that the registry does not have is not asked for again
UNKNOWN_SECONDS = 2.0
MOST_UNKNOWN = 10_000
# what registries answer for an id that they do not have
NO_SUCH_ID = (400, 404, 422)


def bare(schema: Any) -> Any:
    """Give the schema without documentation, and with plain numbers for times.

    So no year can overflow a datetime.
    """
    if isinstance(schema, dict):
        return {k: bare(v) for k, v in schema.items() if k not in ("doc", "logicalType")}
    return [bare(s) for s in schema] if isinstance(schema, list) else schema


def type_names(schema: Any) -> set[str]:
    """Give the names of all types and logical types in a schema."""
    if isinstance(schema, dict):
        return (
            type_names(schema.get("type"))
            | type_names(schema.get("items"))
            | type_names(schema.get("fields"))
            | {schema.get("logicalType", "")}
        )
    if isinstance(schema, list):
        return set().union(*map(type_names, schema))
    return {schema} if isinstance(schema, str) else set()


def is_unbounded(schema: Any, enclosing: frozenset[str] = frozenset()) -> bool:
    """Tell whether a few bytes can make a value of any depth or length.

    So does a type within itself, on which decoders in C crash, and a list of items of no bytes.
    """
    if isinstance(schema, str):
        return schema.rpartition(".")[2] in enclosing
    if isinstance(schema, list):
        return any(is_unbounded(part, enclosing) for part in schema)
    kind = schema["type"]
    if kind in ("array", "map"):
        items = schema["items" if kind == "array" else "values"]
        return (kind == "array" and _takes_no_bytes(items)) or is_unbounded(items, enclosing)
    if kind in ("record", "error"):
        inside = enclosing | {schema["name"].rpartition(".")[2]}
        return any(is_unbounded(f["type"], inside) for f in schema["fields"])
    return is_unbounded(kind, enclosing)


def _takes_no_bytes(schema: Any) -> bool:
    if isinstance(schema, dict) and schema["type"] in ("record", "error"):
        return all(_takes_no_bytes(f["type"]) for f in schema["fields"])
    if isinstance(schema, dict):
        empty = schema["type"] == "fixed" and schema["size"] == 0
        return empty or _takes_no_bytes(schema["type"])
    return bool(schema == "null")


@dataclass(frozen=True)
class Schema:
    """One version of one contract. `raw` is the JSON as published."""

    raw: dict[str, Any]
    text: str = field(init=False)
    parsed: Any = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        derived = {
            "text": json.dumps(self.raw),
            # a dict of its own, since two versions of a contract have the same name
            "parsed": fastavro.parse_schema(bare(self.raw), named_schemas={}),
            "fingerprint": fingerprint(to_parsing_canonical_form(self.raw), "CRC-64-AVRO"),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # the way to fill a frozen dataclass

    @property
    def header(self) -> bytes:
        """The first bytes of a single-object record."""
        return SINGLE_OBJECT + bytes.fromhex(self.fingerprint)

    @property
    def columnar(self) -> bool:
        """Whether pyruhvro reads and writes it."""
        return not type_names(self.raw) & UNSUPPORTED

    @property
    def fields(self) -> dict[str, Any]:
        """The fields by name."""
        return {f["name"]: f for f in self.raw["fields"]}

    def arrow(self) -> pa.Schema:
        """Give the columns that pyruhvro reads it into."""
        return pyruhvro.deserialize_array([], self.text).schema

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.fingerprint == other.fingerprint


@cache
def load(name: str) -> Schema:
    """Give the reader schema `avro/<name>.avsc`."""
    return Schema(json.loads((FOLDER / f"{name}.avsc").read_text()))


def published(name: str) -> list[Schema]:
    """Give every version of the contract that was ever published, oldest first."""
    paths = sorted(
        (FOLDER / "history").glob(f"{name}.v*.avsc"), key=lambda p: int(p.suffixes[0][2:])
    )
    return [Schema(json.loads(p.read_text())) for p in paths]


class ConfluentIds:
    """Find the writer schema of a Confluent id.

    State: every id that was found, and those whose schema is of no use to us.
    Errors: an unknown id is None; a registry that does not answer is a TransientError, since
    guessing would refuse good records.
    """

    def __init__(self, registry: str | None) -> None:
        self._registry = registry
        self._known: dict[int, Schema | None] = {}
        self._ask_again: dict[int, float] = {}
        if registry is None:
            listed = json.loads((FOLDER / "confluent_ids.json").read_text())
            self._known = {
                int(number): Schema(json.loads((FOLDER / path).read_text()))
                for number, path in listed.items()
            }

    def find(self, number: int) -> Schema | None:
        """Give the schema; None for an id that names none of ours."""
        # A registry's ids are positive ints, so it need not be asked for more than 31 bits.
        if number in self._known or self._registry is None or number >= 2**31:
            return self._known.get(number)
        if time.monotonic() < self._ask_again.get(number, 0.0):
            return None
        url = f"{self._registry.rstrip('/')}/schemas/ids/{number}"
        answer = _fetch(url)
        if answer is None:
            # It may be registered later; but a topic full of it must not ask at each batch.
            if len(self._ask_again) > MOST_UNKNOWN:
                self._ask_again.clear()
            self._ask_again[number] = time.monotonic() + UNKNOWN_SECONDS
            return None
        self._known[number] = _schema_of(answer)
        return self._known[number]


def _fetch(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=REGISTRY_SECONDS) as response:
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            if error.code not in NO_SUCH_ID:
                raise TransientError(f"schema registry {url}: HTTP {error.code}") from error
        return None
    except (OSError, HTTPException) as error:
        raise TransientError(f"schema registry {url} does not answer: {error}") from error


def _schema_of(answer: bytes) -> Schema | None:
    try:
        raw = json.loads(json.loads(answer)["schema"])
        if not isinstance(raw, dict) or is_unbounded(raw):
            return None
        schema = Schema(raw)
    except Exception:
        # Whatever it is that another team has registered (JSON Schema, protobuf, broken Avro),
        # fastavro and json fail on it in many ways, and no event of ours has this id.
        return None
    return schema if "fields" in schema.raw else None
