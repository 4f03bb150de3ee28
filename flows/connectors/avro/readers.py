"""Read our own topics: clean events, dead letters, tallies.

What cannot be read is refused, like any other record. Readers keep no state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from flows.connectors.avro import schemas
from flows.connectors.avro.columns import BAD
from flows.connectors.avro.decode import (
    WriterSchema,
    column_reader,
    columns_of,
    frame_of,
    read_one,
)
from flows.connectors.avro.foreign import ForeignEvents
from flows.connectors.avro.schemas import Schema
from flows.domain.batch import Batch, Origin, Refusal
from flows.domain.codes import Code
from flows.domain.counting import CleanEvents
from flows.domain.dead_letters import DeadLetter, unreadable
from flows.domain.family import Family
from flows.domain.incarnation import UNKNOWN, numbered
from flows.domain.items import FlatItems
from flows.domain.tables import (
    DEAD_LETTERS,
    LOSSES,
    OFFSETS,
    OUTCOMES,
    RULES,
    AnyRows,
    Table,
    TupleRows,
    storable,
)
from flows.domain.text import NulFinder, printable

LaneOf = Callable[[str, int], int | None]
"""Gives the lane of a topic's incarnation; None for one that no topic of ours ever had."""


def first_lane(topic: str, incarnation: int) -> int | None:
    """Give the lane of topics that were never made anew."""
    return 0


# What events of the first version of the clean contract lack.
UNNUMBERED = {"source_incarnation": pl.Int32, "accepted": pl.Int64}


class Part(NamedTuple):
    """Some events of a batch, and their items where they are known."""

    frame: pl.DataFrame
    flat: FlatItems | None


class CleanReader:
    """Read clean events to columns, whether a record holds one event or a batch of them."""

    def __init__(self, family: Family, kernels: bool = True) -> None:
        self._nul = NulFinder(family)
        self._foreign = ForeignEvents(family)
        event, batch = family.clean_contract, family.batch_contract
        self._events = {s.header: s for s in (*schemas.published(event), schemas.load(event))}
        batches = {s.header: s for s in (*schemas.published(batch), schemas.load(batch))}
        self._known = self._events | batches
        readers = {h: column_reader(s) for h, s in self._events.items() if kernels}
        readers |= {h: column_reader(event_of(s), True) for h, s in batches.items() if kernels}
        self._readers = {header: reader for header, reader in readers.items() if reader is not None}
        empty = pa.RecordBatch.from_pylist([], schema=schemas.load(event).arrow())
        self._empty = Part(self._part(schemas.load(event).header, empty, np.arange(0)), None)

    def read(self, batch: Batch) -> CleanEvents:
        """Decode a batch of records to events, in the order of the records."""
        headers = pc.fill_null(pc.binary_slice(batch.payload, 0, 10), b"")
        parts: list[Part] = []
        refused: list[Refusal] = []
        for header in pc.unique(headers).to_pylist():
            rows = np.flatnonzero(pc.equal(headers, header).to_numpy(zero_copy_only=False))
            self._read_rows(batch, header, rows, parts, refused)
        events, flat = self._empty if not parts else parts[0]
        if len(parts) > 1:
            order, flat = events.columns, None
            events = pl.concat([part.frame[order] for part in parts]).sort(
                "row", maintain_order=True
            )
        flat = flat or self._foreign.flat_of(events)
        foreign = self._foreign.find(events, batch, flat)
        if foreign.any():
            # the whole record is refused, with the good events it may hold: clean wrote none of it
            rows = np.unique(events["row"].to_numpy()[foreign])
            refused += [Refusal(row, Code.INVALID) for row in rows.tolist()]
            events, flat = events.filter(pl.Series(~foreign)), None
        return CleanEvents(batch, events, refused, flat)

    def _read_rows(
        self,
        batch: Batch,
        header: bytes,
        rows: np.ndarray,
        parts: list[Part],
        refused: list[Refusal],
    ) -> None:
        """Read the records that begin with the same bytes: all at once, or one by one."""
        if header in self._readers:
            rows = self._read_columns(batch, header, rows, parts)
            if not len(rows):
                return
        if header in self._known:
            values = [v[10:] for v in batch.payload.take(pa.array(rows)).to_pylist()]
            columns = columns_of(values, self._known[header])
            if columns is not None:
                parts.append(Part(self._part(header, columns, rows), None))
                return
            # one bad record fails the whole call: only now each is decoded alone
            singles = [columns_of([value], self._known[header]) for value in values]
        else:
            singles = [None] * len(rows)
        for row, single in zip(rows.tolist(), singles, strict=True):
            if single is not None:
                parts.append(Part(self._part(header, single, np.array([row])), None))
            else:
                refused.append(Refusal(row, _code_of(batch.payload[row].as_py(), self._known)))

    def _read_columns(
        self, batch: Batch, header: bytes, rows: np.ndarray, parts: list[Part]
    ) -> np.ndarray:
        """Read the records that the kernel reads, and give the rows of the others."""
        every = len(rows) == len(batch)
        values = batch.payload if every else batch.payload.take(pa.array(rows))
        columns = self._readers[header].read(values, len(header))
        read = columns.counts != BAD
        own = np.repeat(rows[read], columns.counts[read])
        frame = columns.frame.hstack([pl.Series("row", own, pl.Int64)])
        parts.append(Part(self._numbered(frame), columns.flat))
        others: np.ndarray = rows[~read]
        return others

    def _part(self, header: bytes, columns: pa.RecordBatch, rows: np.ndarray) -> pl.DataFrame:
        if header not in self._events:
            # a batch: its events become rows of their own, which all lead back to the one record
            lists = columns.column("events")
            rows = rows[pc.list_parent_indices(lists).to_numpy()]
            columns = pa.RecordBatch.from_struct_array(lists.flatten())
        return self._numbered(
            frame_of(columns, self._nul).with_columns(pl.Series("row", rows, pl.Int64))
        )

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        # from before events had a number
        missing = {c: kind for c, kind in UNNUMBERED.items() if c not in frame.columns}
        if not missing:
            return frame
        return frame.with_columns(pl.lit(0, kind).alias(c) for c, kind in missing.items())


def event_of(batch: Schema) -> Schema:
    """Give the schema of the events in a batch."""
    (events,) = batch.raw["fields"]
    return Schema(events["type"]["items"])


@dataclass(frozen=True)
class ReadRows:
    """A batch and its rows; `refused` is what could not be read or stored."""

    batch: Batch
    rows: Sequence[AnyRows]
    refused: Sequence[Refusal]

    @property
    def caught_up(self) -> bool:
        """Say whether the poll brought all that the topic has."""
        return self.batch.caught_up


class _Contract(Protocol):
    """How the records of a topic become rows."""

    @property
    def names(self) -> tuple[str, ...]: ...
    def row_of(self, record: dict[str, Any]) -> tuple[Table, tuple[Any, ...]] | None: ...


class RecordReader:
    """Read the records of a small topic to rows, record by record."""

    def __init__(self, contract: _Contract) -> None:
        self._contract = contract
        published = [
            schema
            for name in contract.names
            for schema in (*schemas.published(name), schemas.load(name))
        ]
        self._known = {s.header: s for s in published}
        self._writers = {s.header: WriterSchema.of(s, s) for s in published}

    def read(self, batch: Batch) -> ReadRows:
        """Decode a batch to the rows of each table."""
        rows: dict[Table, list[tuple[Any, ...]]] = {}
        refused: list[Refusal] = []
        for index, value in enumerate(batch.payload.to_pylist()):
            record = self._record(value)
            if isinstance(record, Code):
                refused.append(Refusal(index, record))
                continue
            table_and_row = self._contract.row_of(record)
            if table_and_row is not None and storable(*table_and_row):
                rows.setdefault(table_and_row[0], []).append(table_and_row[1])
            else:
                refused.append(Refusal(index, Code.INVALID))
        return ReadRows(batch, [TupleRows(table, part) for table, part in rows.items()], refused)

    def _record(self, value: bytes | None) -> dict[str, Any] | Code:
        writer = self._writers.get(value[:10]) if value else None
        if value is None or writer is None:
            return _code_of(value, self._known)
        return read_one(value[10:], writer)


class TallyContract:
    """Counts by outcome, by rule and by offset, and the losses."""

    names = ("outcome_tally", "rule_tally", "offset_tally", "loss")

    def __init__(self, lane_of: LaneOf = first_lane) -> None:
        self._lane_of = lane_of

    def row_of(self, record: dict[str, Any]) -> tuple[Table, tuple[Any, ...]] | None:
        """Make the row of a tally; None where it is of no topic that was ever ours."""
        table = next(table for mark, table in _BY_FIELD.items() if mark in record)
        partition = _partition_of(record, self._lane_of)
        if partition is None:
            return None
        values = record | {"partition": partition, "topic": record["source_topic"]}
        return table, tuple(values[c] for c in table.columns)


# each contract has a field that the others have not
_BY_FIELD = {"outcome": OUTCOMES, "rule": RULES, "offsets": OFFSETS, "why": LOSSES}


def _partition_of(record: dict[str, Any], lane_of: LaneOf) -> int | None:
    """Give the number of a record's source partition in tables."""
    topic, incarnation = record["source_topic"], record.get("source_incarnation", UNKNOWN)
    lane = lane_of(topic, incarnation)
    return None if lane is None else numbered(lane, record["source_partition"])


class DeadLetterContract:
    """Dead letters."""

    names = ("dead_letter",)

    def __init__(self, lane_of: LaneOf = first_lane) -> None:
        self._lane_of = lane_of

    def row_of(self, record: DeadLetter) -> tuple[Table, tuple[Any, ...]] | None:
        """Make the row of a dead letter, with texts that any terminal takes."""
        partition = _partition_of(record, self._lane_of)
        if partition is None:
            return None
        texts = {k: printable(v, 1_000) for k, v in record.items() if isinstance(v, str)}
        violations = [
            {k: v and printable(v) for k, v in violation.items()}
            for violation in record["violations"]
        ]
        # letters of before these fields have none of them
        values = dict.fromkeys(("event_type", "amount_minor", "amount_currency")) | record | texts
        values |= {"violations": json.dumps(violations), "source_partition": partition}
        return DEAD_LETTERS, tuple(values[c] for c in DEAD_LETTERS.columns)


class DeadLetterReader:
    """Read dead letters to rows; one that cannot be read becomes a row about itself."""

    def __init__(self, origin: Origin, lane_of: LaneOf = first_lane) -> None:
        self._origin = origin
        self._contract = DeadLetterContract(lane_of)
        self._reader = RecordReader(self._contract)

    def read(self, batch: Batch) -> ReadRows:
        """Decode a batch to rows of the table of dead letters."""
        read = self._reader.read(batch)
        if not read.refused:
            return read
        letters = unreadable(batch, read.refused, self._origin)
        own = [row for letter in letters if (row := self._contract.row_of(letter)) is not None]
        own_rows = TupleRows(DEAD_LETTERS, [row for _, row in own])
        return ReadRows(batch, [*read.rows, own_rows], read.refused)


def tally_reader(lane_of: LaneOf = first_lane) -> RecordReader:
    """Read tallies to rows."""
    return RecordReader(TallyContract(lane_of))


def _code_of(value: bytes | None, known: dict[bytes, Schema]) -> Code:
    """Name what is wrong with a record that could not be read."""
    if not value:
        return Code.EMPTY
    if value[:2] != schemas.SINGLE_OBJECT:
        return Code.BAD_MAGIC
    schema = known.get(value[:10])
    if schema is None:
        return Code.UNKNOWN_SCHEMA if len(value) >= 10 else Code.TRUNCATED
    record = read_one(value[10:], WriterSchema.of(schema, schema))
    return record if isinstance(record, Code) else Code.NOT_AVRO
