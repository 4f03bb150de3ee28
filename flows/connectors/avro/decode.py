"""Avro bytes to columns: the fast path reads a whole batch at once, the slow path one record, and
both give one answer.

A record is readable when pyruhvro and fastavro both read it to its last byte. The fast path proves
that without fastavro: what it read, encoded again, must be the same bytes. Whatever differs is
asked of both, record by record.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from flows.connectors.avro import schemas
from flows.connectors.avro.diagnose import diagnose, first_fault
from flows.connectors.avro.scan import malformed
from flows.connectors.avro.schemas import CONFLUENT, SINGLE_OBJECT, ConfluentIds, Schema
from flows.domain.batch import Batch, Decoded, Refusal
from flows.domain.codes import Code
from flows.domain.family import Family
from flows.domain.text import NulFinder


@dataclass(frozen=True)
class WriterSchema:
    """A writer schema, and how its columns become the reader's."""

    schema: Schema
    reader: Schema
    plain: bool
    folds: dict[str, tuple[set[str], str]]
    newer: bool

    @classmethod
    def of(cls, schema: Schema, reader: Schema) -> WriterSchema:
        folds: dict[str, tuple[set[str], str]] = {}
        plain = schema.columnar and reader.columnar
        for name, wanted in reader.fields.items():
            had = schema.fields.get(name)
            if had is None:
                plain &= "default" in wanted
                continue
            symbols, extra = symbols_of(wanted["type"]), set(symbols_of(had["type"]))
            if symbols and extra:
                if extra - set(symbols):
                    folds[name] = (set(symbols), wanted["type"].get("default", symbols[0]))
            else:
                plain &= had["type"] == wanted["type"]
        return cls(schema, reader, plain, folds, "event_type" in folds)


@dataclass(frozen=True)
class Framed:
    """Records that begin with the same bytes. Shape: `values` and `rows` have one entry a record."""

    writer: WriterSchema
    prefix: bytes
    values: pa.Array
    rows: np.ndarray

    def __getitem__(self, which: slice | np.ndarray) -> Framed:
        values = (
            self.values[which] if isinstance(which, slice) else self.values.filter(pa.array(which))
        )
        return Framed(self.writer, self.prefix, values, self.rows[which])

    def bodies(self) -> list[bytes]:
        skip = len(self.prefix)
        return [value[skip:] for value in self.values.to_pylist()]


Part = tuple[pl.DataFrame, pa.Array]


def symbols_of(kind: Any) -> list[str]:
    return kind["symbols"] if isinstance(kind, dict) and kind.get("type") == "enum" else []


class Decoder:
    """Decode the raw records of a family, whatever published or registered version wrote them.

    Errors: no record raises; each unreadable one gets its code
    (test_every_mutated_record_has_one_outcome).
    """

    def __init__(self, family: Family, ids: ConfluentIds | None, max_bytes: int) -> None:
        self._reader = reader = schemas.load(family.contract)
        self._nul = NulFinder(family)
        self._arrow = reader.arrow()
        self._ids = ids
        self._max_bytes = max_bytes
        published = schemas.published(family.contract)
        self._by_header = {s.header: WriterSchema.of(s, reader) for s in published}
        self._by_schema: dict[Schema, WriterSchema] = {}

    def decode(self, batch: Batch) -> Decoded:
        """Decode a batch of records; a record without a value is EMPTY."""
        payload = batch.payload
        refused: list[Refusal] = []
        parts: list[Part] = []
        lengths = pc.fill_null(pc.binary_length(payload), 0)
        large = pc.greater(lengths, self._max_bytes).to_numpy(zero_copy_only=False)
        for writer, rows in self._by_writer(payload):
            if large[rows].any():
                refused += [Refusal(r, Code.TOO_LARGE) for r in rows[large[rows]].tolist()]
                rows = rows[~large[rows]]
            if isinstance(writer, Code):
                refused += [Refusal(r, writer) for r in rows.tolist()]
            elif len(rows):
                schema, prefix = writer
                values = payload if len(rows) == len(payload) else payload.take(pa.array(rows))
                self._read(Framed(schema, prefix, values, rows), parts, refused)
        refused.sort(key=lambda refusal: refusal.row)
        events, bodies = self._together(parts)
        return Decoded(batch, events, bodies, refused)

    def _by_writer(
        self, payload: pa.Array
    ) -> list[tuple[tuple[WriterSchema, bytes] | Code, np.ndarray]]:
        """The rows of each writer schema, and those whose first bytes name none."""
        headers = pc.fill_null(pc.binary_slice(payload, 0, 10), b"").dictionary_encode()
        groups: dict[bytes | Code, int] = {}
        asked: dict[bytes, WriterSchema | Code] = {}
        found: list[tuple[WriterSchema, bytes] | Code] = []
        group_of = np.empty(len(headers.dictionary), np.int32)
        for i, header in enumerate(headers.dictionary.to_pylist()):
            prefix = header[:5] if header[:1] == CONFLUENT else header
            if (
                prefix not in asked
            ):  # once a batch: a registry does not remember for us what it does not know
                asked[prefix] = self._writer(prefix)
            writer = asked[prefix]
            key = writer if isinstance(writer, Code) else prefix
            if key not in groups:
                groups[key] = len(found)
                found.append(writer if isinstance(writer, Code) else (writer, prefix))
            group_of[i] = groups[key]
        if len(found) == 1:
            return [(found[0], np.arange(len(payload)))]
        group = group_of[headers.indices.to_numpy()]
        return [(what, np.flatnonzero(group == i)) for i, what in enumerate(found)]

    def _writer(self, header: bytes) -> WriterSchema | Code:
        if not header:
            return Code.EMPTY
        if header[:2] == SINGLE_OBJECT:
            return (
                Code.TRUNCATED
                if len(header) < 10
                else self._by_header.get(header, Code.UNKNOWN_SCHEMA)
            )
        if header == SINGLE_OBJECT[:1]:
            return Code.TRUNCATED
        if header[:1] != CONFLUENT or self._ids is None:
            return Code.BAD_MAGIC
        if len(header) < 5:
            return Code.TRUNCATED
        schema = self._ids.find(int.from_bytes(header[1:5], "big"))
        if schema is None:
            return Code.UNKNOWN_SCHEMA
        if schema not in self._by_schema:
            self._by_schema[schema] = WriterSchema.of(schema, self._reader)
        return self._by_schema[schema]

    def _read(self, records: Framed, parts: list[Part], refused: list[Refusal]) -> None:
        writer = records.writer
        if not writer.plain:
            self._read_slowly(records, parts, refused)
            return
        columns = deserialized(records.bodies(), writer.schema)
        bad = (
            malformed(records.values, len(records.prefix), writer.schema.raw)
            if columns is None
            else text_suspects(columns)
        )
        if columns is None or bad.any():
            # neither found the fault: then each record is asked for alone
            bad = bad if bad.any() else np.ones(len(bad), bool)
            self._read_slowly(records[bad], parts, refused)
            if not bad.all():
                self._read(records[~bad], parts, refused)
            return
        encoded = encode(columns, writer.schema)
        again = pc.binary_join_element_wise(records.prefix, encoded, b"")
        same = pc.equal(again, records.values).to_numpy(zero_copy_only=False)
        rows = records.rows
        if not same.all():
            self._read_slowly(records[~same], parts, refused)
            columns, encoded, rows = (
                columns.filter(pa.array(same)),
                encoded.filter(pa.array(same)),
                rows[same],
            )
        if len(rows):
            parts.append(self._part(writer, self._resolve(columns, writer), encoded, rows))

    def _resolve(self, columns: pa.RecordBatch, writer: WriterSchema) -> pa.RecordBatch:
        """WriterSchema's columns to the reader's: defaults for what is missing, the enum's default
        for symbols we lack.
        """
        if writer.schema == self._reader:
            return columns
        arrays = []
        for field in self._arrow:
            at = columns.schema.get_field_index(field.name)
            if at < 0:
                default = self._reader.fields[field.name]["default"]
                arrays.append(
                    pa.array([default], field.type).take(pa.array(np.zeros(len(columns), np.int32)))
                )
                continue
            column = columns.column(at)
            if field.name in writer.folds:
                known, default = writer.folds[field.name]
                column = pc.if_else(pc.is_in(column, pa.array(sorted(known))), column, default)
            arrays.append(column.cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _part(
        self,
        writer: WriterSchema,
        columns: pa.RecordBatch,
        encoded: pa.Array | None,
        rows: np.ndarray,
    ) -> Part:
        bodies = (
            encoded
            if encoded is not None and writer.schema == self._reader
            else encode(columns, self._reader)
        )
        frame = frame_of(columns, self._nul).with_columns(
            pl.Series("row", rows, pl.Int64),
            pl.lit(writer.newer).alias("newer_writer"),
            pl.lit(writer.schema.fingerprint).alias("fingerprint"),
        )
        return frame, bodies

    def _read_slowly(self, records: Framed, parts: list[Part], refused: list[Refusal]) -> None:
        writer = records.writer
        good: list[dict[str, Any]] = []
        good_rows: list[int] = []
        for row, body in zip(records.rows.tolist(), records.bodies(), strict=True):
            event = read_one(body, writer)
            if isinstance(event, Code):
                refused.append(Refusal(row, event, writer.schema.fingerprint))
            else:
                good.append(event)
                good_rows.append(row)
        if good:
            columns = pa.RecordBatch.from_pylist(good, schema=self._arrow)
            parts.append(self._part(writer, columns, None, np.array(good_rows)))

    def _together(self, parts: list[Part]) -> Part:
        if not parts:
            empty = pa.RecordBatch.from_pylist([], schema=self._arrow)
            parts = [
                self._part(WriterSchema.of(self._reader, self._reader), empty, None, np.arange(0))
            ]
        if len(parts) == 1:
            return parts[0]
        events = pl.concat([frame for frame, _ in parts])
        bodies = pa.concat_arrays([bodies for _, bodies in parts])
        order = np.argsort(events["row"].to_numpy(), kind="stable")
        return events[order], bodies.take(pa.array(order))


def columns_of(bodies: list[bytes], schema: Schema) -> pa.RecordBatch | None:
    """All bodies as columns, or None when at least one of them is bad."""
    columns = deserialized(bodies, schema)
    return columns if columns is not None and valid(columns) else None


def deserialized(bodies: list[bytes], schema: Schema) -> pa.RecordBatch | None:
    """All bodies as columns whose text is not yet checked, or None when one of them does not fit
    the schema.
    """
    try:
        return pyruhvro.deserialize_array(bodies, schema.text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # PanicException of a Rust library is no Exception
        return None


def text_suspects(columns: pa.RecordBatch) -> np.ndarray:
    """Which rows hold text that is no UTF-8: the decoder does not look; found by halving, as there
    are few.
    """
    bad = np.zeros(len(columns), bool)
    waiting = [(0, len(columns))]
    while waiting:
        start, length = waiting.pop()
        if valid(columns.slice(start, length)):
            continue
        if length == 1:
            bad[start] = True
        else:
            waiting += [(start, length // 2), (start + length // 2, length - length // 2)]
    return bad


def valid(columns: pa.RecordBatch) -> bool:
    try:
        columns.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def encode(columns: pa.RecordBatch, schema: Schema) -> pa.Array:
    """The Avro bytes of each row."""
    if not len(columns):
        return pa.array([], pa.binary())
    return pa.concat_arrays(pyruhvro.serialize_record_batch(columns, schema.text, 1))


def read_one(body: bytes, writer: WriterSchema) -> dict[str, Any] | Code:
    """Ask both decoders for one record, and name what is wrong with it."""
    stream = io.BytesIO(body)
    try:
        event = fastavro.schemaless_reader(stream, writer.schema.parsed, writer.reader.parsed)
    except Exception:  # it names a fault by whatever its code ran into
        return diagnose(body, writer.schema.raw)
    # fastavro takes a negative length for "all the rest", a negative index from the end, and an int
    # of any size
    if stream.tell() != len(body) or (writer.plain and columns_of([body], writer.schema) is None):
        return diagnose(body, writer.schema.raw)
    if not writer.plain and (fault := first_fault(body, writer.schema.raw)) is not None:
        return fault
    assert isinstance(event, dict)  # every contract is a record
    return event


def frame_of(columns: pa.RecordBatch, nul: NulFinder) -> pl.DataFrame:
    """Turn Arrow into Polars, times into UTC milliseconds.

    Shape: adds `has_nul`, whether a text of the event holds a NUL character.
    """
    frame = pl.DataFrame(columns)
    naive = [c for c, t in frame.schema.items() if t == pl.Datetime("ms")]
    return frame.with_columns(
        pl.col(naive).cast(pl.Datetime("ms", "UTC")), nul.expression(columns).alias("has_nul")
    )
