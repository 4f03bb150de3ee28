"""The item that flows: not one record, but the batch that one poll brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from flows.domain.codes import Code
from flows.domain.incarnation import UNKNOWN
from flows.domain.items import FlatItems


@dataclass(frozen=True)
class Batch:
    """Records as they stood on the topic, of all partitions of a process.

    Shape: one entry per record in all five columns, ordered by partition and offset; `payload` and
    `key` may be null.
    Time: `timestamp` is Kafka's, UTC milliseconds. `caught_up` says that the poll found no more
    than this. `incarnations` maps partitions to the incarnation of the topic (incarnation.py);
    a partition that it lacks has an unknown one.
    """

    partition: np.ndarray
    offset: np.ndarray
    timestamp: np.ndarray
    key: pa.Array
    payload: pa.Array
    caught_up: bool
    incarnations: Mapping[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offset)

    def incarnation(self, partition: int) -> int:
        """Give the incarnation of the topic that the partition's records are of."""
        return self.incarnations.get(partition, UNKNOWN)

    @cached_property
    def rows_by_partition(self) -> dict[int, np.ndarray]:
        """Map each partition to its rows, ascending."""
        return rows_by_partition(self.partition)

    @property
    def first_offsets(self) -> dict[int, int]:
        """Map each partition to its lowest offset in the batch."""
        return {p: int(self.offset[rows[0]]) for p, rows in self.rows_by_partition.items()}

    @property
    def last_offsets(self) -> dict[int, int]:
        """Map each partition to its highest offset in the batch."""
        return {p: int(self.offset[rows[-1]]) for p, rows in self.rows_by_partition.items()}


class Refusal(NamedTuple):
    """A record (its row in the batch) that cannot be read, why, and what wrote it, where known."""

    row: int
    code: Code
    fingerprint: str | None = None


@dataclass(frozen=True)
class Decoded:
    """A batch and what decoding made of it.

    Shape: `events` has the reader's fields and `row` (index into the batch, ascending), `has_nul`,
    `newer_writer` (the writer knows event types that we do not) and `fingerprint` (hex). `bodies`
    has one entry per event: its Avro bytes in the reader schema. `refused` is the rest, by row.
    `flat` are the items of the events, where decoding has found them anyway.
    """

    batch: Batch
    events: pl.DataFrame
    bodies: pa.Array
    refused: Sequence[Refusal]
    flat: FlatItems | None = None


@dataclass(frozen=True)
class Origin:
    """Which flow says it of which topic."""

    flow: str
    topic: str


def rows_by_partition(partition: np.ndarray) -> dict[int, np.ndarray]:
    """Map each partition to its rows, ascending."""
    # Partitions are few: counting them, and one pass for each, costs a tenth of sorting the rows.
    present = np.flatnonzero(np.bincount(partition)) if len(partition) else ()
    return {int(p): np.flatnonzero(partition == p) for p in present}


def running_maximum(partition: np.ndarray, values: np.ndarray, carry: dict[int, int]) -> np.ndarray:
    """Give the highest value of each row's partition before that row.

    Shape: rows of a partition in offset order, partitions in any mixture.
    State: `carry` has the maxima from the batches before; it is updated to those after this one.
    """
    before = np.empty(len(values), np.int64)
    for p, rows in rows_by_partition(partition).items():
        # carry 4 and values 5, 3, 9: maxima 4, 5, 5, 9. A row must not count itself, so it gets
        # the maximum one place to its left: 4, 5, 5. The last one is the next batch's carry.
        maxima = np.maximum.accumulate(np.concatenate(([carry[p]], values[rows])))
        before[rows] = maxima[:-1]
        carry[p] = int(maxima[-1])
    return before


def milliseconds_of(times: pl.Series) -> np.ndarray:
    """Give a column of times as Unix milliseconds; it may hold no null."""
    # not `to_physical`, which makes a query
    milliseconds: np.ndarray = times.to_numpy().view(np.int64)
    return milliseconds


def utc(milliseconds: np.ndarray, name: str) -> pl.Series:
    """Give Unix milliseconds as a column of aware times."""
    return (
        pl.Series(name, milliseconds, pl.Int64).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    )
