"""Batches by hand: records of one partition, as a poll brings them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from flows.domain.batch import Batch
from tests.support.plain_oracle import Stored
from tests.support.web_events import NOON


def batch_of_log(records: Sequence[Stored]) -> Batch:
    """Make the batch of a poll from its records, in their order."""
    return Batch(
        np.array([r.partition for r in records], np.int32),
        np.array([r.offset for r in records], np.int64),
        np.array([r.timestamp for r in records], np.int64),
        pa.array([r.key for r in records], pa.binary()),
        pa.array([r.value for r in records], pa.binary()),
        True,
    )


def batch_of(
    values: Sequence[bytes | None],
    start: int = 0,
    timestamp: int = NOON,
    key: bytes | None = None,
) -> Batch:
    """Make records from the offset `start` on, all with the same key and Kafka timestamp."""
    count = len(values)
    return Batch(
        np.zeros(count, np.int32),
        np.arange(start, start + count),
        np.full(count, timestamp, np.int64),
        pa.array([key] * count, pa.binary()),
        pa.array(values, pa.binary()),
        True,
    )
