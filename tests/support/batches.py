"""Batches by hand: records of one partition, as a poll brings them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from flows.domain.batch import Batch
from tests.support.web_events import NOON


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
