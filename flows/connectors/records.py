"""What goes to a topic: records by partition; and how a sink is fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from bytewax import operators as op
from bytewax.dataflow import Stream
from bytewax.outputs import Sink

BY_KEY = -1
"""In place of a partition: the broker's client chooses it by the hash of the key."""

X = TypeVar("X")
Taken = TypeVar("Taken", covariant=True)


@dataclass(frozen=True)
class Records:
    """Records to write.

    Shape: partition -> messages ({"value", "key"}); under BY_KEY the hash of the key chooses the
    partition. Messages are grouped because confluent-kafka 2.16 ignores a partition that stands in
    a message of a batch. `timestamps` are the Kafka timestamps (ms) of the raw records that they
    came from, where telemetry measures how long that took.
    """

    messages: dict[int, list[dict[str, Any]]]
    timestamps: np.ndarray | None = None


@dataclass(frozen=True)
class ColumnarRecords:
    """Records to write, by columns.

    Shape: one entry per record in all; a partition may be BY_KEY, a key null. Those of a partition
    are in their order.
    """

    partition: np.ndarray
    values: pa.Array
    keys: pa.Array | None
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.partition)

    def __getitem__(self, rows: np.ndarray) -> ColumnarRecords:
        chosen = pa.array(rows)
        keys = None if self.keys is None else self.keys.take(chosen)
        return ColumnarRecords(self.partition[rows], self.values.take(chosen), keys)

    @classmethod
    def of(cls, records: Records | ColumnarRecords) -> ColumnarRecords:
        """Turn records into columns."""
        if isinstance(records, ColumnarRecords):
            return records
        flat = [(p, m) for p, messages in records.messages.items() for m in messages]
        return cls(
            np.array([p for p, _ in flat], np.int32),
            pa.array([m["value"] for _, m in flat], pa.binary()),
            pa.array([m.get("key") for _, m in flat], pa.binary()),
            records.timestamps,
        )

    @property
    def messages(self) -> dict[int, list[dict[str, Any]]]:
        """Give them as `Records` has them."""
        messages = {}
        for p, rows in rows_of_partitions(self.partition).items():
            values = chosen(self.values, rows)
            keys = [None] * len(rows) if self.keys is None else chosen(self.keys, rows)
            messages[p] = [{"value": v, "key": k} for v, k in zip(values, keys, strict=True)]
        return messages


AnyRecords = Records | ColumnarRecords


def rows_of_partitions(partition: np.ndarray) -> dict[int, np.ndarray]:
    """Map each partition, also BY_KEY, to its rows, ascending."""
    return {int(p): np.flatnonzero(partition == p) for p in np.unique(partition)}


def chosen(values: pa.Array, rows: np.ndarray) -> list[Any]:
    """Give some values of a column, at least one."""
    listed: list[Any] = slice_of(values, rows).to_pylist()
    return listed


def slice_of(values: pa.Array, rows: np.ndarray) -> pa.Array:
    """Take some values of a column, at least one."""
    # rows of one partition usually follow each other, and a slice copies nothing
    adjacent = rows[-1] - rows[0] + 1 == len(rows)
    return values.slice(rows[0], len(rows)) if adjacent else values.take(pa.array(rows))


class Pulled(Protocol[Taken]):
    """What a sink takes when a flush is due, instead of receiving it on its edge of the graph.

    Two outputs are pulled, and drawn dashed in the pictures of their flows: rows of open windows
    and tallies. Both stand for all that changed since the last flush. Building them for every
    batch, each time to be replaced by the next, would cost more than counting.
    """

    def take(self) -> Taken:
        """Give what changed since the last call."""


def write(step: str, values: Stream[X], sink: Sink[tuple[str, X]]) -> None:
    """Output values to a sink of one part; Bytewax requires a key with each value."""
    op.output(step, op.map(f"{step}_keyed", values, lambda value: (step, value)), sink)
