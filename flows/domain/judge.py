"""The verdict over each record: accepted, duplicate, late, or rejected with a code.

In this order: unreadable, broken rules, behind the watermark, known id. What was refused by an
earlier step does not reach a later one: a broken event moves no watermark, a late one makes no id
known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from flows.domain.batch import Batch, Decoded, running_maximum, utc
from flows.domain.codes import Code, Outcome
from flows.domain.ids import NEVER, KnownIds, keys_of
from flows.domain.validate import Findings, Validator

# before any event, and far enough from the end of int64 that a lateness can be taken from it
NO_TIME = -(2**60)
VERDICTS = [(Outcome.ACCEPTED, ""), (Outcome.DUPLICATE, ""), (Outcome.LATE, Code.LATE)] + [
    (Outcome.REJECTED, code) for code in Code if code is not Code.LATE
]
NUMBER = {verdict: i for i, verdict in enumerate(VERDICTS)}
ACCEPTED, DUPLICATE, LATE = range(3)
INVALID, FUTURE, CONFLICT = (
    NUMBER[Outcome.REJECTED, c] for c in (Code.INVALID, Code.FUTURE_TIME, Code.ID_CONFLICT)
)


@dataclass(frozen=True)
class Limits:
    lateness: timedelta
    future_tolerance: timedelta


@dataclass(frozen=True)
class Judged:
    """A batch with a verdict for every record.

    Shape: `verdict` (index into VERDICTS) has one entry a record of the batch; `events` and
    `findings` one a readable record, `events["row"]` leads back to the batch. `timed` and
    `identified` are the readable records that were asked for lateness and for their id.
    """

    batch: Batch
    verdict: np.ndarray
    events: pl.DataFrame
    findings: Findings
    refused_fingerprints: dict[int, str | None]
    timed: np.ndarray
    identified: np.ndarray


class Judge:
    """Judge batches in log order.

    Time: event time against the watermark and Kafka's timestamp; the wall clock plays no part
    (test_any_batching_and_any_restart_gives_the_same_verdicts).
    State: a watermark a partition, and the ids within the lateness.
    """

    def __init__(self, validator: Validator, limits: Limits) -> None:
        self._validator = validator
        self._lateness = limits.lateness // timedelta(milliseconds=1)
        self._tolerance = limits.future_tolerance // timedelta(milliseconds=1)
        self._ids = KnownIds()
        self.watermarks: dict[int, int] = {}

    def restore(self, partition: int, mark: int) -> None:
        """Start the partition with the watermark as it was at `rewind`."""
        self.watermarks[partition] = mark

    @property
    def known_ids(self) -> int:
        return len(self._ids)

    def oldest(self, partition: int) -> int | None:
        """Offset of the oldest record that a verdict to come can depend on."""
        return self._ids.oldest(partition, self.watermarks[partition] - self._lateness)

    def judge(self, decoded: Decoded) -> Judged:
        """Give every record of the batch its verdict."""
        batch, events = decoded.batch, decoded.events
        verdict = np.zeros(len(batch), np.int8)
        for row, code, _ in decoded.refused:
            verdict[row] = NUMBER[Outcome.REJECTED, code]
        rows = events["row"].to_numpy()
        events = events.with_columns(utc(batch.timestamp[rows] + self._tolerance, "newest_allowed"))
        findings = self._validator.validate(events)
        broken = findings.any(len(events))
        verdict[rows[broken]] = INVALID
        if (early := findings.broken.get("EVENT_TIME_FUTURE")) is not None:
            others = Findings(
                {}, {k: v for k, v in findings.broken.items() if k != "EVENT_TIME_FUTURE"}
            )
            verdict[rows[early & ~others.any(len(events))]] = FUTURE
        timed = np.flatnonzero(~broken)
        identified = self._judge_order(batch, events, rows, timed, verdict)
        fingerprints = {r.row: r.fingerprint for r in decoded.refused}
        return Judged(batch, verdict, events, findings, fingerprints, timed, identified)

    def _judge_order(
        self,
        batch: Batch,
        events: pl.DataFrame,
        rows: np.ndarray,
        timed: np.ndarray,
        verdict: np.ndarray,
    ) -> np.ndarray:
        """Judge lateness and repetition of the events at `timed`; gives those whose id was looked
        up.
        """
        times = events["event_time"].to_physical().to_numpy()[timed]
        partitions = batch.partition[rows[timed]]
        horizons = running_maximum(partitions, times, self.watermarks) - self._lateness
        late = times < horizons
        verdict[rows[timed[late]]] = LATE
        kept = timed[~late]
        known = events if len(kept) == len(events) else events[kept]
        partitions, horizons, times = partitions[~late], horizons[~late], times[~late]
        payloads = pl.Series(
            batch.payload.take(rows[kept]) if len(kept) < len(batch) else batch.payload
        ).hash(seed=1)
        verdicts = self._ids.judge(
            keys_of(known["event_id"], partitions),
            payloads.to_numpy(),
            times,
            np.maximum(horizons, NEVER + 1),
            (partitions, batch.offset[rows[kept]]),
        )
        verdict[rows[kept[verdicts.duplicate]]] = DUPLICATE
        verdict[rows[kept[verdicts.conflict]]] = CONFLICT
        return kept
