"""Decode Avro bytes to columns: a whole batch at once, or record by record, with the same answer.

A record is readable when pyruhvro and fastavro both read it to its last byte. The fast path proves
that without fastavro: what it read, encoded again, must be the same bytes. A record of which it
cannot prove that goes the slow path, which gives it to both decoders.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from flows.connectors.avro import schemas
from flows.connectors.avro.columns import BAD, ColumnReader, Unsupported
from flows.connectors.avro.diagnose import diagnose, first_fault
from flows.connectors.avro.scan import malformed
from flows.connectors.avro.schemas import CONFLUENT, SINGLE_OBJECT, ConfluentIds, Schema
from flows.domain.batch import Batch, Decoded, Refusal
from flows.domain.codes import Code
from flows.domain.family import Family
from flows.domain.items import FlatItems
from flows.domain.text import NulFinder


@dataclass(frozen=True)
class WriterSchema:
    """A writer schema, and how its columns become the reader's.

    With `plain`, columns need no more than defaults, a cast and the `folds`: enum field -> the
    symbols that the reader knows, and the default that replaces any other. `newer` says that the
    writer knows event types that the reader does not.
    """

    schema: Schema
    reader: Schema
    plain: bool
    folds: dict[str, tuple[set[str], str]]
    newer: bool

    @classmethod
    def of(cls, schema: Schema, reader: Schema) -> WriterSchema:
        """Compare a writer schema with the reader's, field by field."""
        folds: dict[str, tuple[set[str], str]] = {}
        plain = schema.columnar and reader.columnar
        for name, field in reader.fields.items():
            written = schema.fields.get(name)
            if written is None:
                plain &= "default" in field
                continue
            symbols, written_symbols = symbols_of(field["type"]), symbols_of(written["type"])
            if symbols and written_symbols:
                if set(written_symbols) - set(symbols):
                    folds[name] = (set(symbols), field["type"].get("default", symbols[0]))
            else:
                plain &= written["type"] == field["type"]
        return cls(schema, reader, plain, folds, "event_type" in folds)


@dataclass(frozen=True)
class Framed:
    """Records that begin with the same bytes.

    Shape: `values` and `rows` (in the batch) have one entry per record.
    """

    writer: WriterSchema
    prefix: bytes
    values: pa.Array
    rows: np.ndarray

    def __getitem__(self, mask: np.ndarray) -> Framed:
        values = self.values.filter(pa.array(mask))
        return Framed(self.writer, self.prefix, values, self.rows[mask])

    def bodies(self) -> list[bytes]:
        """Give what follows the prefix of each record."""
        skip = len(self.prefix)
        return [value[skip:] for value in self.values.to_pylist()]


class Part(NamedTuple):
    """Some events of a batch: a frame, their bodies, and their items where they are known."""

    frame: pl.DataFrame
    bodies: pa.Array
    flat: FlatItems | None = None


def symbols_of(kind: Any) -> list[str]:
    """Give the symbols of an enum; none where the type is no enum."""
    return kind["symbols"] if isinstance(kind, dict) and kind.get("type") == "enum" else []


class Decoder:
    """Decode the raw records of a family, whatever published or registered version wrote them.

    Errors: no record raises; each unreadable one gets its code
    (test_every_mutated_record_has_one_outcome).
    """

    def __init__(
        self, family: Family, ids: ConfluentIds | None, max_bytes: int, kernels: bool = True
    ) -> None:
        self._reader = reader = schemas.load(family.contract)
        self._nul = NulFinder(family)
        self._arrow = reader.arrow()
        self._ids = ids
        self._max_bytes = max_bytes
        published = schemas.published(family.contract)
        self._by_header = {s.header: WriterSchema.of(s, reader) for s in published}
        self._by_schema: dict[Schema, WriterSchema] = {}
        self._columns = column_reader(reader) if kernels else None

    def decode(self, batch: Batch) -> Decoded:
        """Decode a batch of records; a record without a value is EMPTY."""
        payload = batch.payload
        refused: list[Refusal] = []
        parts: list[Part] = []
        large = self._is_large(payload) | self._is_large(batch.key)
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
        events, bodies, flat = self._together(parts)
        return Decoded(batch, events, bodies, refused, flat)

    def _is_large(self, values: pa.Array) -> np.ndarray:
        # a key counts too: clean events and dead letters bear it
        lengths = pc.fill_null(pc.binary_length(values), 0)
        large: np.ndarray = pc.greater(lengths, self._max_bytes).to_numpy(zero_copy_only=False)
        return large

    def _by_writer(
        self, payload: pa.Array
    ) -> list[tuple[tuple[WriterSchema, bytes] | Code, np.ndarray]]:
        """Give the rows of each writer schema, and of each code where the first bytes name none."""
        headers = pc.fill_null(pc.binary_slice(payload, 0, 10), b"").dictionary_encode()
        number_of: dict[bytes | Code, int] = {}
        writers: dict[bytes, WriterSchema | Code] = {}
        groups: list[tuple[WriterSchema, bytes] | Code] = []
        group_of_header = np.empty(len(headers.dictionary), np.int32)
        for i, header in enumerate(headers.dictionary.to_pylist()):
            # ten bytes of a Confluent record are a prefix of five and the start of its body, so
            # many headers share one prefix
            prefix = header[:5] if header[:1] == CONFLUENT else header
            if prefix not in writers:
                # looked up once per batch, because an id that the registry does not know is not
                # remembered: it may be registered by the next batch
                writers[prefix] = self._writer(prefix)
            writer = writers[prefix]
            key = writer if isinstance(writer, Code) else prefix
            if key not in number_of:
                number_of[key] = len(groups)
                groups.append(writer if isinstance(writer, Code) else (writer, prefix))
            group_of_header[i] = number_of[key]
        if len(groups) == 1:
            return [(groups[0], np.arange(len(payload)))]
        group_of_row = group_of_header[headers.indices.to_numpy()]
        return [(group, np.flatnonzero(group_of_row == i)) for i, group in enumerate(groups)]

    def _writer(self, header: bytes) -> WriterSchema | Code:
        if not header:
            return Code.EMPTY
        if header[:2] == SINGLE_OBJECT:
            if len(header) < 10:
                return Code.TRUNCATED
            return self._by_header.get(header, Code.UNKNOWN_SCHEMA)
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
            # columns cannot express what this schema needs, so there is no fast path for it
            self._read_slowly(records, parts, refused)
            return
        if self._columns is not None and writer.schema == self._reader:
            records = self._read_columns(self._columns, records, parts)
            if not len(records.rows):
                return
        columns = deserialized(records.bodies(), writer.schema)
        # One bad record fails the whole call, which does not say which one it was: the scanner
        # finds the ones that are malformed. A call that succeeds has not looked at UTF-8, and an
        # invalid text must never reach Polars, nor the encoder below.
        suspect = (
            malformed(records.values, len(records.prefix), writer.schema.raw)
            if columns is None
            else text_suspects(columns)
        )
        if columns is None or suspect.any():
            # Suspects go to both decoders, which have the last word. Where the call failed and the
            # scanner suspects nobody, every record is a suspect: so each round has fewer records,
            # and this ends.
            suspect = suspect if suspect.any() else np.ones(len(suspect), bool)
            self._read_slowly(records[suspect], parts, refused)
            if not suspect.all():
                self._read(records[~suspect], parts, refused)
            return
        # The proof by encoding again: pyruhvro reads past what it should refuse, such as bytes
        # after the last field or a varint that is longer than needed. An event has only one
        # encoding here, so equal bytes mean that no byte was ignored or reinterpreted. A valid
        # record in another encoding only loses the fast path. Encoding takes 90 ns per event,
        # fastavro 10 us. The encoded bytes are needed anyway: clean events begin with them.
        # See docs/adr/007.
        encoded = encode(columns, writer.schema)
        again = pc.binary_join_element_wise(records.prefix, encoded, b"")
        same = pc.equal(again, records.values).to_numpy(zero_copy_only=False)
        rows = records.rows
        if not same.all():
            self._read_slowly(records[~same], parts, refused)
            mask = pa.array(same)
            columns, encoded, rows = columns.filter(mask), encoded.filter(mask), rows[same]
        if len(rows):
            parts.append(self._part(writer, self._resolve(columns, writer), encoded, rows))

    def _read_columns(self, reader: ColumnReader, records: Framed, parts: list[Part]) -> Framed:
        """Read the records that the kernel reads, and give the others."""
        columns = reader.read(records.values, len(records.prefix))
        read = columns.counts != BAD
        chosen = records if read.all() else records[read]
        if len(chosen.rows):
            bodies = pc.binary_replace_slice(chosen.values, 0, len(records.prefix), b"")
            frame = _with_origin(columns.frame, records.writer, chosen.rows)
            parts.append(Part(frame, bodies, columns.flat))
        return records[~read]

    def _resolve(self, columns: pa.RecordBatch, writer: WriterSchema) -> pa.RecordBatch:
        """Turn the writer's columns into the reader's, as Avro's schema resolution does.

        What is missing gets its default, and a symbol that the reader lacks the enum's default.
        """
        if writer.schema == self._reader:
            return columns
        arrays = []
        for field in self._arrow:
            index = columns.schema.get_field_index(field.name)
            if index < 0:
                default = pa.array([self._reader.fields[field.name]["default"]], field.type)
                arrays.append(default.take(pa.array(np.zeros(len(columns), np.int32))))
                continue
            column = columns.column(index)
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
        # bytes of another writer are not those of the reader schema, in which bodies are handed on
        same_schema = encoded is not None and writer.schema == self._reader
        bodies = encoded if same_schema else encode(columns, self._reader)
        return Part(_with_origin(frame_of(columns, self._nul), writer, rows), bodies)

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
            # a part without rows has the columns that later steps name
            empty = pa.RecordBatch.from_pylist([], schema=self._arrow)
            parts = [
                self._part(WriterSchema.of(self._reader, self._reader), empty, None, np.arange(0))
            ]
        if len(parts) == 1:
            return parts[0]
        events = pl.concat([part.frame for part in parts])
        bodies = pa.concat_arrays([part.bodies for part in parts])
        order = np.argsort(events["row"].to_numpy(), kind="stable")
        return Part(events[order], bodies.take(pa.array(order)))


def column_reader(schema: Schema, is_batch: bool = False) -> ColumnReader | None:
    """Make the kernel's reader of events; None where they have types that it does not read."""
    try:
        return ColumnReader(schema, is_batch)
    except Unsupported:
        return None


def _with_origin(frame: pl.DataFrame, writer: WriterSchema, rows: np.ndarray) -> pl.DataFrame:
    count = len(frame)
    return frame.hstack(
        [
            pl.Series("row", rows, pl.Int64),
            pl.Series("newer_writer", np.full(count, writer.newer)),
            pl.repeat(writer.schema.fingerprint, count, eager=True).alias("fingerprint"),
        ]
    )


def columns_of(bodies: list[bytes], schema: Schema) -> pa.RecordBatch | None:
    """Decode all bodies to columns; None when at least one of them is bad."""
    columns = deserialized(bodies, schema)
    return columns if columns is not None and valid(columns) else None


def deserialized(bodies: list[bytes], schema: Schema) -> pa.RecordBatch | None:
    """Decode all bodies to columns whose texts are not yet checked.

    None when one of them does not fit the schema.
    """
    try:
        return pyruhvro.deserialize_array(bodies, schema.text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # PanicException of a Rust library is no Exception
        return None


def text_suspects(columns: pa.RecordBatch) -> np.ndarray:
    """Mark the rows that hold a text that is no UTF-8, which the decoder does not check."""
    suspects = np.zeros(len(columns), bool)
    # Arrow validates a batch but does not say which row is bad. Bad rows are few, so halving finds
    # them; the usual batch is checked once.
    stretches = [(0, len(columns))]
    while stretches:
        start, length = stretches.pop()
        if valid(columns.slice(start, length)):
            continue
        if length == 1:
            suspects[start] = True
        else:
            half = length // 2
            stretches += [(start, half), (start + half, length - half)]
    return suspects


def valid(columns: pa.RecordBatch) -> bool:
    """Say whether all texts are UTF-8 and all offsets lead into their buffers."""
    try:
        columns.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def encode(columns: pa.RecordBatch, schema: Schema) -> pa.Array:
    """Encode each row to Avro bytes, without a prefix."""
    if not len(columns):
        return pa.array([], pa.binary())
    return pa.concat_arrays(pyruhvro.serialize_record_batch(columns, schema.text, 1))


def read_one(body: bytes, writer: WriterSchema) -> dict[str, Any] | Code:
    """Decode one record by both decoders, or name what is wrong with it."""
    stream = io.BytesIO(body)
    try:
        event = fastavro.schemaless_reader(stream, writer.schema.parsed, writer.reader.parsed)
    except Exception:  # fastavro raises whatever its code ran into: IndexError, KeyError, EOFError
        return diagnose(body, writer.schema.raw)
    # Both decoders are too lenient. fastavro takes a negative length for "all the rest", a negative
    # index from the end, and an int of any size; pyruhvro cuts such an int to 32 bits.
    if stream.tell() != len(body) or (writer.plain and columns_of([body], writer.schema) is None):
        return diagnose(body, writer.schema.raw)
    if (fault := first_fault(body, writer.schema.raw)) is not None:
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
