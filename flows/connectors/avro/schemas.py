"""The event contracts in `avro/`, and which of them a record's first bytes name.

Two framings are on the wire: Avro single-object (`C3 01`, then the little-endian CRC-64-AVRO of the
writer schema) and Confluent's (`00`, then a 4-byte id). The ids come from the registry when one is
set, else from `avro/confluent_ids.json`.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyruhvro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from flows.domain.errors import TransientError

_FLOWS = Path(__file__).resolve().parents[2]
# beside flows/ in a checkout, below it in a wheel (pyproject.toml)
FOLDER = next(p for p in (_FLOWS.parent / "avro", _FLOWS / "avro") if p.is_dir())
SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"
# pyruhvro panics on these ("not implemented"), see its README; such schemas take the fastavro path
UNSUPPORTED = {"bytes", "fixed", "uuid", "decimal"}


def bare(schema: Any) -> Any:
    """The schema without documentation, and with plain numbers for times, so that no year can
    overflow a datetime.
    """
    if isinstance(schema, dict):
        return {k: bare(v) for k, v in schema.items() if k not in ("doc", "logicalType")}
    return [bare(s) for s in schema] if isinstance(schema, list) else schema


def names(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        return (
            names(schema.get("type"))
            | names(schema.get("items"))
            | names(schema.get("fields"))
            | {schema.get("logicalType", "")}
        )
    if isinstance(schema, list):
        return set().union(*map(names, schema))
    return {schema} if isinstance(schema, str) else set()


@dataclass(frozen=True)
class Schema:
    """One version of one contract. `raw` is the JSON as published."""

    raw: dict[str, Any]
    text: str = field(init=False)
    parsed: Any = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "text", json.dumps(self.raw))
        set_(self, "parsed", fastavro.parse_schema(bare(self.raw), named_schemas={}))
        set_(self, "fingerprint", fingerprint(to_parsing_canonical_form(self.raw), "CRC-64-AVRO"))

    @property
    def header(self) -> bytes:
        return SINGLE_OBJECT + bytes.fromhex(self.fingerprint)

    @property
    def columnar(self) -> bool:
        """Whether pyruhvro reads and writes it."""
        return not names(self.raw) & UNSUPPORTED

    @property
    def fields(self) -> dict[str, Any]:
        return {f["name"]: f for f in self.raw["fields"]}

    def arrow(self) -> pa.Schema:
        return pyruhvro.deserialize_array([], self.text).schema

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.fingerprint == other.fingerprint


@cache
def load(name: str) -> Schema:
    """The reader schema `avro/<name>.avsc`."""
    return Schema(json.loads((FOLDER / f"{name}.avsc").read_text()))


def published(name: str) -> list[Schema]:
    """Every version of the contract that was ever published, oldest first."""
    paths = sorted(
        (FOLDER / "history").glob(f"{name}.v*.avsc"), key=lambda p: int(p.suffixes[0][2:])
    )
    return [Schema(json.loads(p.read_text())) for p in paths]


class ConfluentIds:
    """Find the writer schema of a Confluent id.

    Errors: an unknown id is None; a registry that does not answer is a TransientError, since
    guessing would refuse good records.
    """

    def __init__(self, registry: str | None) -> None:
        self._registry = registry
        self._known: dict[int, Schema | None] = {}
        if registry is None:
            listed = json.loads((FOLDER / "confluent_ids.json").read_text())
            self._known = {
                int(i): Schema(json.loads((FOLDER / path).read_text()))
                for i, path in listed.items()
            }

    def find(self, number: int) -> Schema | None:
        if (
            number in self._known or self._registry is None or number >= 2**31
        ):  # a registry's ids are positive ints
            return self._known.get(number)
        found: Schema | None
        url = f"{self._registry.rstrip('/')}/schemas/ids/{number}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = Schema(json.loads(json.loads(answer.read())["schema"]))
                found = found if isinstance(found.raw, dict) and "fields" in found.raw else None
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in (400, 404, 422):
                    raise TransientError(f"schema registry {url}: HTTP {error.code}") from error
            return None  # not remembered: it may be registered later
        except OSError as error:
            raise TransientError(f"schema registry {url} does not answer: {error}") from error
        except (
            Exception
        ):  # a schema of another language or broken JSON: this id can be no event of ours
            found = None
        self._known[number] = found
        return found
