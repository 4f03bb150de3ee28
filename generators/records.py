"""What is sent, in columns: the healthy stream, and the extra records of the faults in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from generators.answer_key.verdicts import IS_ACCEPTED, Verdict

# Event, name of the fault ("" for a healthy record) and verdict of one record.
Answer = tuple[dict[str, Any] | None, str, Verdict]


@dataclass(frozen=True)
class Answers:
    """What must become of a chunk of records.

    Shape: `order` maps each record to a row of `batch`, or, from len(batch) on, to an entry of the
    lists. Records of the batch are healthy: accepted, without a fault.
    """

    batch: pa.RecordBatch | None
    order: np.ndarray
    events: list[dict[str, Any] | None] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def rows(self) -> Iterator[Answer]:
        """Give event, fault and verdict of each record, in order.

        Units: `event_time` of an event in milliseconds.
        """
        healthy = 0 if self.batch is None else len(self.batch)
        events: list[dict[str, Any] | None] = []
        if self.batch is not None:
            times = self.batch.column("event_time").cast(pa.int64()).to_pylist()
            events += [
                {**row, "event_time": ms}
                for row, ms in zip(self.batch.to_pylist(), times, strict=True)
            ]
        events += self.events
        for index in self.order.tolist():
            if index < healthy:
                yield events[index], "", IS_ACCEPTED
            else:
                yield events[index], self.faults[index - healthy], self.verdicts[index - healthy]


@dataclass(frozen=True)
class Records:
    """Records to send, in order.

    Shape: lists and arrays of one length.
    Units: `due_us` in microseconds since the start of the schedule.
    """

    keys: list[bytes]
    values: list[bytes | None]
    partition: np.ndarray
    due_us: np.ndarray
    answers: Answers | None

    def __len__(self) -> int:
        return len(self.keys)
