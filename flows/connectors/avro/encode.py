"""Verdicts to records: clean events with where they came from, dead letters, tallies."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import encode
from flows.connectors.avro.schemas import Schema
from flows.connectors.kafka_sink import BY_KEY, Records
from flows.domain.batch import rows_by_partition
from flows.domain.cleaning import Cleaned
from flows.domain.codes import ACCEPTED
from flows.domain.dead_letters import letters
from flows.domain.tallies import OutcomeTally, RuleTally

# A clean event is the event, then these three: so its bytes are the event's own bytes and a short
# tail.
SOURCE = ("source_partition", "source_offset", "source_timestamp")


def tail_schema() -> Schema:
    clean = schemas.load("clean_web_event").raw
    assert [f["name"] for f in clean["fields"][-3:]] == list(SOURCE)
    assert clean["fields"][:-3] == schemas.load("web_event").raw["fields"]
    return Schema({"type": "record", "name": "Source", "fields": clean["fields"][-3:]})


def clean_events(cleaned: Cleaned, prefix: bytes) -> tuple[np.ndarray, pa.Array]:
    """The rows (of the batch) that were accepted, and their Avro bytes as clean events, after the
    prefix.
    """
    judged, batch = cleaned.judged, cleaned.judged.batch
    rows = judged.events["row"].to_numpy()
    accepted = (judged.verdict[rows] == ACCEPTED) & cleaned.is_new[rows]
    rows = rows[accepted]
    body = cleaned.bodies if accepted.all() else cleaned.bodies.filter(pa.array(accepted))
    tails = pa.RecordBatch.from_arrays(
        [
            pa.array(batch.partition[rows], pa.int32()),
            pa.array(batch.offset[rows], pa.int64()),
            pa.array(batch.timestamp[rows], pa.timestamp("ms")),
        ],
        names=list(SOURCE),
    )
    return rows, pc.binary_join_element_wise(prefix, body, encode(tails, TAIL), b"")


def chosen(values: pa.Array, rows: np.ndarray) -> list[Any]:
    """The values at the rows; a stretch of them, which a partition usually is, is not copied first."""
    if rows[-1] - rows[0] + 1 == len(rows):
        return values.slice(rows[0], len(rows)).to_pylist()
    return values.take(pa.array(rows)).to_pylist()


TAIL = tail_schema()


def one_event_a_record(cleaned: Cleaned) -> Records:
    """Accepted events as records of avro/clean_web_event.avsc, in the partition of their raw
    record, with its key.
    """
    rows, values = clean_events(cleaned, schemas.load("clean_web_event").header)
    batch = cleaned.judged.batch
    messages = {}
    for p, mine in rows_by_partition(batch.partition[rows]).items():
        keys = chosen(batch.key, rows[mine])
        messages[p] = [
            {"value": v, "key": k} for v, k in zip(chosen(values, mine), keys, strict=True)
        ]
    return Records(messages, batch.timestamp[rows])


# Well under the 1 MiB that a broker takes by default, and large enough that the cost of a record no
# longer counts.
BATCH_BYTES = 262_144


def one_batch_a_record(cleaned: Cleaned) -> Records:
    """Accepted events as records of avro/clean_web_batch.avsc: each holds many events of one
    partition, in order.

    The bytes of an Avro array are a count, its items' bytes, and a zero.
    """
    rows, bodies = clean_events(cleaned, b"")
    partition = cleaned.judged.batch.partition[rows]
    header = schemas.load("clean_web_batch").header
    messages: dict[int, list[dict[str, Any]]] = {}
    for p, here in rows_by_partition(partition).items():
        mine = chosen(bodies, here)
        sizes = np.cumsum([len(b) for b in mine])
        at = 0
        while at < len(mine):
            start = sizes[at - 1] if at else 0
            end = max(at + 1, int(np.searchsorted(sizes, start + BATCH_BYTES)))
            value = header + long_bytes(min(end, len(mine)) - at) + b"".join(mine[at:end]) + b"\0"
            messages.setdefault(p, []).append({"value": value})
            at = end
    return Records(messages, cleaned.judged.batch.timestamp[rows])


def long_bytes(value: int) -> bytes:
    """A long as Avro writes it: zig-zag, seven bits a byte."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def record(schema: Schema, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(schema.header)
    fastavro.schemaless_writer(out, schema.parsed, value)
    return out.getvalue()


def dead_letters(cleaned: Cleaned, topic: str) -> Records:
    """Refused records as records of avro/dead_letter.avsc."""
    return dead_letter_records(letters(cleaned, topic))


def dead_letter_records(found: Iterable[dict[str, Any]]) -> Records:
    schema = schemas.load("dead_letter")
    return Records(
        {
            BY_KEY: [
                {"value": record(schema, letter), "key": letter["source_key"]} for letter in found
            ]
        }
    )


def tallies(flow: str, topic: str, taken: tuple[list[OutcomeTally], list[RuleTally]]) -> Records:
    """Counts as records of avro/outcome_tally.avsc and avro/rule_tally.avsc; the key makes the
    newest replace the others.
    """
    messages = []
    for schema, found in (
        (schemas.load("outcome_tally"), taken[0]),
        (schemas.load("rule_tally"), taken[1]),
    ):
        for tally in found:
            fields = dataclasses.asdict(tally)
            value = fields | {
                "flow": flow,
                "source_topic": topic,
                "source_partition": tally.partition,
                "window_start": tally.minute,
            }
            what = (
                (fields["outcome"], fields["code"])
                if isinstance(tally, OutcomeTally)
                else (fields["rule"],)
            )
            key = "|".join((flow, topic, str(tally.partition), str(tally.minute), *map(str, what)))
            messages.append({"value": record(schema, value), "key": key.encode()})
    return Records({BY_KEY: messages})
