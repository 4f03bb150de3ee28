"""Texts and rows as bytes: what the kernels read and make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from flows.domain.batch import milliseconds_of, utc
from flows.domain.kernels.hashing import hash_texts
from flows.domain.kernels.packing import measure_texts, pack_texts
from flows.domain.tables import Table

NULL_HASH = (0, 0)


def memory_of(buffer: pa.Buffer | None, kind: type[np.generic] = np.uint8) -> np.ndarray:
    """Look at the memory of a column; nobody may write to it, which kernels are compiled for."""
    # an array of empty texts may have no memory at all
    memory = np.frombuffer(bytes(8) if buffer is None else buffer, kind)
    memory.flags.writeable = False
    return memory


def hashes_of(values: pa.Array) -> np.ndarray:
    """Give the hash of each binary value: (n, 2) uint64; null is empty."""
    _, offsets, data = values.buffers()
    ends = memory_of(offsets, np.int32)[values.offset :][: len(values) + 1]
    hashes = np.empty((len(values), 2), np.uint64)
    hash_texts(ends, memory_of(data), hashes)
    return hashes


class Texts:
    """A column of texts.

    Shape: text i is `data[offsets[i]:offsets[i + 1]]`, UTF-8; null is empty, with another hash.
    """

    def __init__(self, column: pl.Series) -> None:
        self.series = column if column.dtype == pl.String else column.cast(pl.String)
        array = self.series.to_arrow(compat_level=pl.CompatLevel.oldest())
        self._array = array
        _, offsets, data = array.buffers()
        self.count = len(array)
        self.offsets = memory_of(offsets, np.int64)[array.offset :][: self.count + 1]
        self.data = memory_of(data)

    @cached_property
    def hashes(self) -> np.ndarray:
        """Give the hash of each text: (n, 2) uint64."""
        hashes = np.empty((self.count, 2), np.uint64)
        hash_texts(self.offsets, self.data, hashes)
        if self._array.null_count:
            hashes[self._array.is_null().to_numpy(zero_copy_only=False)] = NULL_HASH
        return hashes


class Answers:
    """A batch of events or items with the answers to the questions of all metrics of its scope.

    Shape: `frame` has one row per event or item. Each column is taken out of it once, however many
    metrics read it.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self._texts: dict[str, Texts] = {}
        self._numbers: dict[str, np.ndarray] = {}

    def texts(self, name: str) -> Texts:
        """Give a column of texts."""
        if name not in self._texts:
            self._texts[name] = Texts(self.frame[name])
        return self._texts[name]

    def numbers(self, name: str) -> np.ndarray:
        """Give a column of numbers, bools, or times in ms."""
        if name not in self._numbers:
            column = self.frame[name]
            is_time = column.dtype.is_temporal()
            self._numbers[name] = milliseconds_of(column) if is_time else column.to_numpy()
        return self._numbers[name]


def packed(columns: list[Texts], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the texts of some rows end to end (kernels/packing.py).

    Shape: gives the bytes, and for each row how many there are up to its end.
    """
    sizes = np.zeros(len(rows), np.int64)
    for column in columns:
        measure_texts(column.offsets, rows, sizes)
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    at = ends - sizes
    for column in columns:
        pack_texts(column.offsets, column.data, rows, out, at)
    return out, ends


@dataclass(frozen=True)
class PackedRows:
    """Rows of a metric's table, all with different keys, in an order that all writers share.

    Shape: the row i has `starts[i]` (Unix ms), `partitions[i]`, the texts
    `texts[ends[i]:ends[i + 1]]` (kernels/packing.py) and the column i of `numbers`, whose lines are
    the columns of the table behind its keys.
    """

    table: Table
    starts: np.ndarray
    partitions: np.ndarray
    texts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    distinct = True

    @property
    def frame(self) -> pl.DataFrame:
        """Give the rows as the reference has them: slow, for what is rare."""
        values = [c for c in self.table.columns if c not in self.table.keys]
        dimensions = self.table.keys[2:]
        cells = [self._texts_of(row, len(dimensions)) for row in range(len(self))]
        texts = pl.DataFrame(cells, schema=dict.fromkeys(dimensions, pl.String), orient="row")
        return pl.DataFrame(
            [
                utc(self.starts, "window_start"),
                pl.Series("partition", self.partitions, pl.Int32),
                *texts.get_columns(),
                *(pl.Series(name, n) for name, n in zip(values, self.numbers, strict=True)),
            ]
        )

    def _texts_of(self, row: int, count: int) -> list[str]:
        texts, at = [], int(self.ends[row])
        for _ in range(count):
            end = at + 4 + int.from_bytes(self.texts[at : at + 4], "big")
            texts.append(self.texts[at + 4 : end].tobytes().decode())
            at = end
        return texts
