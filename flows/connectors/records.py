"""What goes to a topic: records by partition; and how a sink is fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from bytewax import operators as op
from bytewax.dataflow import Stream
from bytewax.outputs import Sink

BY_KEY = -1

X = TypeVar("X")
Taken = TypeVar("Taken", covariant=True)


@dataclass(frozen=True)
class Records:
    """Records to write.

    Shape: partition -> messages ({"value", "key"}); under BY_KEY the hash of the key chooses. A
    message cannot choose for itself: confluent-kafka 2.16 ignores a partition that stands in a
    message of a batch. `timestamps` are the Kafka timestamps (ms) of the raw records that they came
    from, where somebody wants to know how long that took.
    """

    messages: dict[int, list[dict[str, Any]]]
    timestamps: np.ndarray | None = None


class Pulled(Protocol[Taken]):
    """What a sink takes when a flush is due, instead of finding it on its edge of the graph.

    Two things are pulled, and drawn dashed in the pictures of their flows: rows of open windows and
    tallies. Both stand for all that changed since the last flush; to build them per batch, only to
    replace them with the next, would cost more than counting.
    """

    def take(self) -> Taken:
        """Give what changed since the last call."""


def write(step: str, values: Stream[X], sink: Sink[tuple[str, X]]) -> None:
    """Output values to a sink of one partition; Bytewax wants a key with each."""
    op.output(step, op.map(f"{step}_keyed", values, lambda value: (step, value)), sink)
