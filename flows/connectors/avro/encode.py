"""Encode what clean decided: clean events with where they came from, dead letters, tallies."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import encode
from flows.connectors.avro.schemas import Schema
from flows.connectors.records import BY_KEY, ColumnarRecords, Records, slice_of
from flows.domain.batch import Origin, rows_by_partition
from flows.domain.cleaning import Cleaned
from flows.domain.codes import ACCEPTED
from flows.domain.dead_letters import DeadLetter
from flows.domain.family import Family
from flows.domain.incarnation import UNKNOWN
from flows.domain.losses import Loss
from flows.domain.tallies import OffsetTally, OutcomeTally, RuleTally, Tallies

# A quarter of the 1 MiB that a broker takes by default. A full record holds about 2,000 events of
# 130 bytes, so the cost per record no longer counts.
BATCH_BYTES = 262_144


class CleanEncoder:
    """Encode the accepted events of a family.

    A clean event is the event, then the fields of `SOURCE`. So its bytes are the event's own bytes
    and a short tail, and nothing that was decoded is encoded again.
    """

    SOURCE = (
        "source_partition",
        "source_offset",
        "source_timestamp",
        "source_incarnation",
        "accepted",
    )

    def __init__(self, family: Family) -> None:
        event = schemas.load(family.contract)
        clean = schemas.load(family.clean_contract)
        tail = clean.raw["fields"][-len(self.SOURCE) :]
        assert clean.raw["fields"] == event.raw["fields"] + tail, f"{family.clean_contract}.avsc"
        assert [f["name"] for f in tail] == list(self.SOURCE), f"{family.clean_contract}.avsc"
        self._tail = Schema({"type": "record", "name": "Source", "fields": tail})
        self._event_header = clean.header
        self._batch_header = schemas.load(family.batch_contract).header

    def one_event_per_record(self, cleaned: Cleaned) -> ColumnarRecords:
        """Encode each event by the clean contract, one event per record.

        A record goes to the partition and has the key of its raw record.
        """
        rows, values = self._events(cleaned, self._event_header)
        batch = cleaned.judged.batch
        keys = batch.key if len(rows) == len(batch) else batch.key.take(pa.array(rows))
        return ColumnarRecords(batch.partition[rows], values, keys, batch.timestamp[rows])

    def one_batch_per_record(self, cleaned: Cleaned) -> Records:
        """Encode events by the batch contract: many events of one partition per record."""
        rows, bodies = self._events(cleaned, b"")
        batch = cleaned.judged.batch
        messages: dict[int, list[dict[str, Any]]] = {}
        for p, indices in rows_by_partition(batch.partition[rows]).items():
            messages[p] = [{"value": value} for value in self._arrays(slice_of(bodies, indices))]
        return Records(messages, batch.timestamp[rows])

    def _arrays(self, events: pa.Array) -> Iterator[bytes]:
        """Give the events as Avro arrays: a count, the bytes of the items, and a zero."""
        # in Arrow's memory the events stand one behind the other already
        _, offsets, data = events.buffers()
        ends = np.frombuffer(offsets, np.int32)[events.offset :][: len(events) + 1]
        memory = memoryview(data)
        for start, end in _stretches(np.diff(ends)):
            count = _long_bytes(end - start)
            yield b"".join((self._batch_header, count, memory[ends[start] : ends[end]], b"\0"))

    def _events(self, cleaned: Cleaned, prefix: bytes) -> tuple[np.ndarray, pa.Array]:
        """Give the rows (of the batch) that were accepted, and their bytes after the prefix."""
        # only new records: what is read again to rebuild the state stands on the topic already
        judged, batch = cleaned.judged, cleaned.judged.batch
        rows = judged.events["row"].to_numpy()
        accepted = (judged.verdict[rows] == ACCEPTED) & cleaned.is_new[rows]
        rows = rows[accepted]
        bodies = cleaned.bodies if accepted.all() else cleaned.bodies.filter(pa.array(accepted))
        partition = batch.partition[rows]
        known = range(int(partition.max(initial=0)) + 1)
        incarnations = np.array([batch.incarnation(p) for p in known], np.int32)
        tails = pa.RecordBatch.from_arrays(
            [
                pa.array(partition, pa.int32()),
                pa.array(batch.offset[rows], pa.int64()),
                pa.array(batch.timestamp[rows], pa.timestamp("ms")),
                pa.array(incarnations[partition], pa.int32()),
                pa.array(cleaned.accepted[rows], pa.int64()),
            ],
            names=list(self.SOURCE),
        )
        return rows, pc.binary_join_element_wise(prefix, bodies, encode(tails, self._tail), b"")


def dead_letters(letters: Iterable[DeadLetter]) -> Records:
    """Encode dead letters by avro/dead_letter.avsc, each with the key of its raw record."""
    schema = schemas.load("dead_letter")
    return Records(
        {BY_KEY: [{"value": _record(schema, x), "key": x["source_key"]} for x in letters]}
    )


def _unknown(partition: int) -> int:
    return UNKNOWN


class TallyRecords:
    """The tallies that changed, as records of avro/*_tally.avsc, and losses of avro/loss.avsc.

    Their key is all but the number: so the newest count of a minute replaces those before it, on a
    compacted topic too.
    """

    def __init__(
        self, tallies: Tallies, origin: Origin, incarnation: Callable[[int], int] = _unknown
    ) -> None:
        self._tallies = tallies
        self._origin = origin
        self._incarnation = incarnation

    def take(self) -> Records:
        """Encode the counts that changed since the last call."""
        changes = self._tallies.take()
        return Records(
            {
                BY_KEY: [
                    *(self._tally("outcome_tally", t, t.outcome, t.code) for t in changes.outcomes),
                    *(self._tally("rule_tally", t, t.rule) for t in changes.rules),
                    *(self._tally("offset_tally", t, "offsets") for t in changes.offsets),
                    *map(self._loss, changes.losses),
                ]
            }
        )

    def _tally(
        self, contract: str, tally: OutcomeTally | RuleTally | OffsetTally, *names: str
    ) -> dict[str, Any]:
        values = dataclasses.asdict(tally) | {"window_start": tally.minute}
        where = tally.partition, self._incarnation(tally.partition)
        return self._message(contract, where, values, (tally.minute, *names))

    def _loss(self, loss: Loss) -> dict[str, Any]:
        values = {
            "from_offset": loss.start,
            "to_offset": loss.end,
            "records": loss.records,
            "why": str(loss.cause),
        }
        where = loss.partition, loss.incarnation
        return self._message("loss", where, values, (loss.start, loss.cause))

    def _message(
        self,
        contract: str,
        where: tuple[int, int],
        values: dict[str, Any],
        names: tuple[Any, ...],
    ) -> dict[str, Any]:
        flow, topic = self._origin.flow, self._origin.topic
        partition, incarnation = where
        value = values | {
            "flow": flow,
            "source_topic": topic,
            "source_partition": partition,
            "source_incarnation": incarnation,
        }
        # without a number where there is none, as in all keys that are on the topic already
        which = (incarnation,) if incarnation else ()
        key = "|".join(map(str, (flow, topic, partition, *which, *names)))
        return {"value": _record(schemas.load(contract), value), "key": key.encode()}


def _stretches(sizes: np.ndarray) -> list[tuple[int, int]]:
    """Cut events into stretches `[start, end)` of at most BATCH_BYTES, or of one larger event."""
    ends = np.cumsum(sizes)
    stretches = []
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + BATCH_BYTES))
        end = min(max(start + 1, fitting), len(sizes))
        stretches.append((start, end))
        start = end
    return stretches


def _long_bytes(value: int) -> bytes:
    """Encode a long as Avro does: zig-zag, seven bits per byte."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _record(schema: Schema, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(schema.header)
    fastavro.schemaless_writer(out, schema.parsed, value)
    return out.getvalue()
