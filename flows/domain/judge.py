"""Give each record its verdict: accepted, duplicate, late, or rejected with a code.

In this order: unreadable, broken rules, behind the watermark, known id. What an earlier step
refused does not reach a later one: a broken event moves no watermark, a late one makes no id known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from flows.domain.batch import Batch, Decoded, milliseconds_of, running_maximum, utc
from flows.domain.codes import (
    CONFLICT,
    DUPLICATE,
    FUTURE,
    INVALID,
    LATE,
    VERDICT_INDEX,
    Outcome,
)
from flows.domain.hashing import keys_in_partitions, keys_of_ids
from flows.domain.ids import NEVER, Identified, KnownIds
from flows.domain.packed import Texts, hashes_of
from flows.domain.validate import Findings, Validator

# Before any event, and far enough from the end of int64 that a lateness can be subtracted.
NO_TIME = -(2**60)


@dataclass(frozen=True)
class Limits:
    """How far event time may be behind the watermark, and ahead of Kafka's timestamp."""

    lateness: timedelta
    future_tolerance: timedelta


@dataclass(frozen=True)
class Judged:
    """A batch with a verdict for every record.

    Shape: `verdict` (index into VERDICTS) has one entry per record of the batch; `events` and
    `findings` one per readable record, `events["row"]` leads back to the batch. `timed` and
    `identified` are the events whose lateness was judged, and those whose id was looked up.
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
    State: one watermark per partition, and the ids within the lateness.
    """

    def __init__(self, validator: Validator, limits: Limits, kernels: bool = True) -> None:
        self._kernels = kernels
        self._validator = validator
        self._lateness = limits.lateness // timedelta(milliseconds=1)
        self._tolerance = limits.future_tolerance // timedelta(milliseconds=1)
        self._ids = KnownIds(self._lateness, kernels)
        self.watermarks: dict[int, int] = {}

    def restore(self, partition: int, mark: int) -> None:
        """Start the partition with the watermark as it was at `rewind`."""
        self.watermarks[partition] = mark

    @property
    def known_ids(self) -> int:
        """Count the ids that are remembered."""
        return len(self._ids)

    def oldest(self, partition: int) -> int | None:
        """Give the offset of the oldest record that a future verdict can depend on."""
        return self._ids.oldest(partition, self.watermarks[partition] - self._lateness)

    def judge(self, decoded: Decoded) -> Judged:
        """Give every record of the batch its verdict."""
        batch, events = decoded.batch, decoded.events
        verdict = np.zeros(len(batch), np.int8)
        for row, code, _ in decoded.refused:
            verdict[row] = VERDICT_INDEX[Outcome.REJECTED, code]
        rows = events["row"].to_numpy()
        events = events.with_columns(utc(batch.timestamp[rows] + self._tolerance, "newest_allowed"))
        findings = self._validator.validate(events, decoded.flat)
        broken = findings.any(len(events))
        verdict[rows[broken]] = INVALID
        if (early := findings.broken.get("EVENT_TIME_FUTURE")) is not None:
            # a wrong clock has a code of its own, so that it can be told from a wrong event; but
            # only where nothing else is wrong
            others = Findings(
                {}, {k: v for k, v in findings.broken.items() if k != "EVENT_TIME_FUTURE"}
            )
            verdict[rows[early & ~others.any(len(events))]] = FUTURE
        timed = np.flatnonzero(~broken)
        identified = self._judge_order(batch, events, rows, timed, verdict)
        fingerprints = {r.row: r.fingerprint for r in decoded.refused}
        return Judged(batch, verdict, events, findings, fingerprints, timed, identified)

    def _hashes(self, ids: pl.Series, payloads: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Give the keys of ids, and hashes of what came with them."""
        if self._kernels:
            return Texts(ids).hashes, hashes_of(payloads)[:, 0]
        return keys_of_ids(ids), pl.Series(payloads).hash(seed=1).to_numpy()

    def _judge_order(
        self,
        batch: Batch,
        events: pl.DataFrame,
        rows: np.ndarray,
        timed: np.ndarray,
        verdict: np.ndarray,
    ) -> np.ndarray:
        """Judge lateness and repetition of the events `timed`; give those whose id was looked up.

        Shape: `verdict`, which it fills in, has one entry per record; `rows` leads there.
        """
        times = milliseconds_of(events["event_time"])[timed]
        partitions = batch.partition[rows[timed]]
        # Each event is compared with the watermark before it, not with that after the batch: so
        # where batches are cut makes no difference. An event that is late is below the watermark
        # and cannot move it, so it needs no exclusion here.
        horizons = running_maximum(partitions, times, self.watermarks) - self._lateness
        late = times < horizons
        verdict[rows[timed[late]]] = LATE
        # A late event makes no id known: another with its id that is still in time is the first.
        kept: np.ndarray = timed[~late]
        known = events if len(kept) == len(events) else events[kept]
        partitions, horizons, times = partitions[~late], horizons[~late], times[~late]
        # The record's bytes, not the event: a repetition is the same record sent again. One id with
        # other bytes is a conflict, because nobody can say which of the two is true.
        payloads = batch.payload.take(rows[kept]) if len(kept) < len(batch) else batch.payload
        keys, hashes = self._hashes(known["event_id"], payloads)
        verdicts = self._ids.judge(
            Identified(
                keys_in_partitions(keys, partitions),
                hashes,
                times,
                np.maximum(horizons, NEVER + 1),
                partitions,
                batch.offset[rows[kept]],
            )
        )
        verdict[rows[kept[verdicts.duplicate]]] = DUPLICATE
        verdict[rows[kept[verdicts.conflict]]] = CONFLICT
        return kept
