"""Bytes on the topic: Avro bodies, both framings, and the partition of a key."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from generators.errors import ConfigError, UnreachableError

_ROOT = Path(__file__).resolve().parents[2]
# In a wheel the contracts lie below flows/ (pyproject.toml).
AVRO = next(folder for folder in (_ROOT / "avro", _ROOT / "flows" / "avro") if folder.is_dir())
NEWEST = 2
SINGLE, CONFLUENT = "single", "confluent"
Event = dict[str, Any]


@dataclass(frozen=True)
class Encoding:
    """Write events in any version and framing.

    Shape: a value is header + Avro body.
    Units: `event_time` of an event given as a dict is an int of milliseconds.
    Source: Avro 1.12 specification, "Single-object encoding"; Confluent's wire format.
    """

    texts: Mapping[int, str]
    parsed: Mapping[int, Any]
    headers: Mapping[tuple[int, str], bytes]
    framing: str

    def header(self, version: int = NEWEST, framing: str | None = None) -> bytes:
        """Give the bytes before the body."""
        return self.headers[version, framing or self.framing]

    @property
    def other_framing(self) -> str:
        """Name the framing that the healthy stream does not use."""
        return CONFLUENT if self.framing == SINGLE else SINGLE

    def body(self, event: Event, version: int = NEWEST) -> bytes:
        """Write one event by the reference implementation.

        Errors: those of fastavro for a value that does not fit the schema's types.
        """
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.parsed[version], event)
        return body.getvalue()

    def value(self, event: Event, version: int = NEWEST, framing: str | None = None) -> bytes:
        """Write one event with its header."""
        return self.header(version, framing) + self.body(event, version)

    def values(self, batch: pa.RecordBatch) -> pa.Array:
        """Write a batch in the newest version, column by column."""
        bodies = pyruhvro.serialize_record_batch(batch, self.texts[NEWEST], 1)[0]
        return pc.binary_join_element_wise(
            pa.scalar(self.header(), bodies.type), bodies, pa.scalar(b"", bodies.type)
        )


def load_encoding(topic: str, registry_url: str | None = None) -> Encoding:
    """Read the contract's versions, and register them where there is a registry.

    Errors: ConfigError when the registry refuses one, UnreachableError when it is away.
    """
    texts = {
        version: (AVRO / "history" / f"web_event.v{version}.avsc").read_text()
        for version in (1, NEWEST)
    }
    headers: dict[tuple[int, str], bytes] = {}
    for version, text in texts.items():
        crc64 = fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO")
        headers[version, SINGLE] = b"\xc3\x01" + bytes.fromhex(crc64)
        schema_id = _registered(registry_url, topic, text) if registry_url else _listed(version)
        headers[version, CONFLUENT] = b"\x00" + schema_id.to_bytes(4, "big")
    return Encoding(
        texts=texts,
        parsed={
            version: fastavro.parse_schema(json.loads(text), named_schemas={})
            for version, text in texts.items()
        },
        headers=headers,
        framing=CONFLUENT if registry_url else SINGLE,
    )


def _listed(version: int) -> int:
    ids = json.loads((AVRO / "confluent_ids.json").read_text())
    return next(
        int(number) for number, path in ids.items() if path.endswith(f"web_event.v{version}.avsc")
    )


def _registered(url: str, topic: str, text: str) -> int:
    request = urllib.request.Request(
        f"{url.rstrip('/')}/subjects/{topic}-value/versions",
        data=json.dumps({"schema": text}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(json.load(response)["id"])
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(
                f"schema registry refused {topic}-value: {error.code} {error.reason}"
            ) from error
    except OSError as error:
        raise UnreachableError(f"SCHEMA_REGISTRY_URL {url}: {error}") from error


def murmur2(key: bytes) -> int:
    """Hash a key as Kafka's Java client does (test_murmur2_is_the_one_of_the_java_client).

    Source: org.apache.kafka.common.utils.Utils.murmur2.
    """
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition of Java's default partitioner (test_partitions_agree_with_librdkafka)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: list[bytes], partitions: int) -> np.ndarray:
    """Give the partition of each key of a pool."""
    return np.array([partition_of(key, partitions) for key in keys], dtype=np.int32)
