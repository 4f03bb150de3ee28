"""Decode events of a plain schema by the kernel (domain/kernels/avro.py), straight to a frame.

What it reads is what the decoders of Python read: it takes only records in the one encoding that
our writers make, and leaves the others to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from flows.connectors.avro.schemas import Schema
from flows.domain.items import FlatItems
from flows.domain.kernels.avro import ARRAY, BAD, ENUM, INT, LONG, STRING, read_events
from flows.domain.packed import memory_of

__all__ = ["BAD", "ColumnReader", "Columns", "Unsupported"]

UTC_MS = pa.timestamp("ms", "UTC")
KINDS = {"string": STRING, "long": LONG, "int": INT, "enum": ENUM, "array": ARRAY}
RANGES = {LONG: (-(2**63), 2**63 - 1), INT: (-(2**31), 2**31 - 1)}


class Unsupported(Exception):
    """The schema has a type that the kernel does not read."""


@dataclass(frozen=True)
class Field:
    """A field of an event or an item."""

    name: str
    kind: int
    nullable: bool
    is_time: bool = False
    symbols: tuple[str, ...] = ()
    items: tuple[Field, ...] = ()

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Field:
        """Read a field's declaration.

        Errors: Unsupported.
        """
        kind = raw["type"]
        nullable = isinstance(kind, list)
        if nullable:
            if len(kind) != 2 or kind[0] != "null":
                raise Unsupported(raw["name"])
            kind = kind[1]
        kind = kind if isinstance(kind, dict) else {"type": kind}
        logical = kind.get("logicalType")
        if kind["type"] not in KINDS or logical not in (None, "timestamp-millis"):
            raise Unsupported(raw["name"])
        items: tuple[Field, ...] = ()
        if kind["type"] == "array":
            item = kind["items"]
            if nullable or not isinstance(item, dict) or item.get("type") != "record":
                raise Unsupported(raw["name"])
            items = tuple(map(cls.of, item["fields"]))
            if any(field.kind == ARRAY for field in items):
                raise Unsupported(raw["name"])
        symbols = tuple(kind.get("symbols", ()))
        return cls(raw["name"], KINDS[kind["type"]], nullable, logical is not None, symbols, items)

    @property
    def range(self) -> tuple[int, int]:
        """Give the least and the most value."""
        if self.kind == ENUM:
            return 0, len(self.symbols) - 1
        return RANGES.get(self.kind, (0, 2**31 - 1))


@dataclass(frozen=True)
class Columns:
    """What the kernel has read.

    Shape: `frame` has a row per event, with the schema's fields and `has_nul`; `flat` are its
    items. `counts` has the events of each record, BAD where it was not read.
    """

    frame: pl.DataFrame
    flat: FlatItems | None
    counts: np.ndarray


class _Room:
    """Memory for the columns of a call, one behind the other."""

    def __init__(self, fields: list[Field], sizes: list[int]) -> None:
        self._fields, self._sizes = fields, sizes
        texts = numbers = nulls = 0
        lines = []
        for field, size in zip(fields, sizes, strict=True):
            is_text = field.kind == STRING
            lines.append(
                (field.kind, field.nullable, texts if is_text else numbers, nulls, *field.range)
            )
            texts += size * is_text
            numbers += size * (not is_text)
            nulls += size
        self.plan = np.array(lines, np.int64).reshape(-1, 6)
        self.columns = (
            np.empty((texts, 2), np.uint64),
            np.empty(numbers, np.int64),
            np.empty(nulls, bool),
        )

    def arrays(self, numbers: range, count: int, data: pa.Buffer) -> Iterator[pa.Array | None]:
        """Give the columns of some fields, of so many rows; None for the array."""
        for number in numbers:
            field, line = self._fields[number], self.plan[number]
            bits = None
            if field.nullable:
                valid = self.columns[2][line[3] :][:count]
                bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
            if field.kind == ARRAY:
                yield None
            elif field.kind == STRING:
                views = pa.py_buffer(self.columns[0][line[2] :][:count])
                yield pa.Array.from_buffers(pa.string_view(), count, [bits, views, data])
            else:
                yield _array_of(field, self.columns[1][line[2] :][:count], bits)


def _array_of(field: Field, values: np.ndarray, bits: pa.Buffer | None) -> pa.Array:
    count = len(values)
    if field.kind == ENUM:
        views, symbols = _views_of(field.symbols)
        return pa.Array.from_buffers(
            pa.string_view(), count, [bits, pa.py_buffer(views[values]), symbols]
        )
    if field.kind == INT:
        return pa.Array.from_buffers(
            pa.int32(), count, [bits, pa.py_buffer(values.astype(np.int32))]
        )
    kind = UTC_MS if field.is_time else pa.int64()
    return pa.Array.from_buffers(kind, count, [bits, pa.py_buffer(values)])


class ColumnReader:
    """Read the events of a schema: one a record, or with `is_batch` an array of them.

    Errors: Unsupported where the schema has a type that the kernel does not read.
    """

    def __init__(self, schema: Schema, is_batch: bool = False) -> None:
        fields = list(map(Field.of, schema.raw["fields"]))
        arrays = [field for field in fields if field.kind == ARRAY]
        if len(arrays) > 1:
            raise Unsupported("a second array")
        self._array = arrays[0] if arrays else None
        self._count = len(fields)
        self._fields = [*fields, *(self._array.items if self._array else ())]
        self._is_batch = is_batch

    def read(self, values: pa.Array, skip: int) -> Columns:
        """Read records, with `skip` bytes of framing before the body of each."""
        data, (begins, ends) = _bounds_of(values, skip)
        # an event takes a byte per field at least, and so does an item
        size = int((ends - begins).clip(0).sum())
        events = size // self._count + 1 if self._is_batch else len(values)
        items = size // max(len(self._fields) - self._count, 1) + 1
        sizes = [events] * self._count + [items] * (len(self._fields) - self._count)
        room = _Room(self._fields, sizes)
        found = np.empty(len(values), np.int64), np.empty(events, np.int64), np.empty(events, bool)
        plan = room.plan, self._count, self._is_batch
        count, total = read_events(data, (begins, ends), plan, room.columns, found)
        return self._columns(room, (count, total), found, values.buffers()[2])

    def _columns(
        self,
        room: _Room,
        sizes: tuple[int, int],
        found: tuple[np.ndarray, np.ndarray, np.ndarray],
        data: pa.Buffer,
    ) -> Columns:
        (count, total), (counts, items, has_nul) = sizes, found
        names = [field.name for field in self._fields]
        arrays = list(room.arrays(range(self._count), count, data))
        flat = None
        if self._array is not None:
            parts = list(room.arrays(range(self._count, len(names)), total, data))
            struct = pa.StructArray.from_arrays(parts, names=names[self._count :])
            offsets = np.zeros(count + 1, np.int32)
            np.cumsum(items[:count], out=offsets[1:])
            arrays[names.index(self._array.name)] = pa.ListArray.from_arrays(
                pa.array(offsets), struct
            )
            frame = pl.DataFrame(pa.RecordBatch.from_arrays(parts, names=names[self._count :]))
            owners = np.repeat(np.arange(count), items[:count])
            flat = FlatItems(frame, owners, items[:count])
        frame = pl.DataFrame(pa.RecordBatch.from_arrays(arrays, names=names[: self._count]))
        return Columns(frame.hstack([pl.Series("has_nul", has_nul[:count])]), flat, counts)


def _bounds_of(values: pa.Array, skip: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Give the memory of binary values, and where the body of each begins and ends in it."""
    _, offsets, data = values.buffers()
    ends = memory_of(offsets, np.int32)[values.offset :][: len(values) + 1].astype(np.int64)
    return memory_of(data), (ends[:-1] + skip, ends[1:])


def _views_of(symbols: tuple[str, ...]) -> tuple[np.ndarray, pa.Buffer]:
    """Give the views of an enum's symbols, and the memory of the long ones."""
    buffers = pa.array(symbols, pa.string_view()).buffers()
    views = np.frombuffer(buffers[1], np.uint64).reshape(-1, 2)
    return views, buffers[2] if len(buffers) > 2 else pa.py_buffer(b"\0")
