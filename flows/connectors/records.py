"""What goes to a topic: records by partition; and how a sink is fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
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
