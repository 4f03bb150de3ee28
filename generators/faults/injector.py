"""Put the faults beside the healthy stream, with a verdict from a model of each partition."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from generators.answer_key.verdicts import (
    IS_ACCEPTED,
    IS_CONFLICT,
    IS_DUPLICATE,
    IS_LATE,
    REJECTED,
    Verdict,
    judge_rules,
)
from generators.faults.catalogue import FAULTS, ExtraRecord, FaultContext
from generators.records import Answers, Records
from generators.rng import draw, stream, threshold, uuid_text
from generators.sending.encoding import Encoding
from generators.shoppers.lanes import HealthyEvents


@dataclass(frozen=True)
class TimeLimits:
    """What the verdicts on faults depend on.

    Time: `latest_ms` is the end of the run, on the event clock and the wall clock; within
    `patience_ms` of event time what waits is to be sent, so that a short run still sends it.
    """

    lateness_ms: int
    tolerance_ms: int
    patience_ms: int
    latest_ms: int


@dataclass(frozen=True)
class Routing:
    """Key and partition of each visitor.

    Shape: both have one entry per visitor, as in the pools.
    """

    keys: list[bytes]
    partition: np.ndarray


@dataclass(frozen=True)
class _PlacedExtra:
    after: int
    visitor: int
    fault: str
    extra: ExtraRecord
    verdict: Verdict


class Injector:
    """Turn chunks of the healthy stream into records.

    Time: healthy event times do not descend, and no extra that is accepted is newer than the
    healthy event before it, so the watermark of a partition is its last healthy event's time.
    State: the extras that wait for their partition's watermark.
    """

    def __init__(
        self,
        seed: int,
        shares: Mapping[str, float],
        limits: TimeLimits,
        encoding: Encoding,
        routing: Routing,
    ) -> None:
        self._limits, self._encoding, self._routing = limits, encoding, routing
        self._faults = [FAULTS[name] for name in FAULTS if shares.get(name, 0.0) > 0.0]
        self._under = np.array(
            [threshold(shares[fault.name]) for fault in self._faults], dtype=np.uint64
        )
        # One stream each, so that a fault's choices are its own
        # (test_a_fault_changes_no_other_fault).
        self._chosen, self._rolls, self._high, self._low = (
            np.array(
                [stream(seed, f"{use} {fault.name}") for fault in self._faults], dtype=np.uint64
            )
            for use in ("fault", "roll", "high", "low")
        )
        self._waiting: dict[int, list[tuple[int, int, int, str, ExtraRecord]]] = {}
        self._queued = 0

    def compose(self, healthy: HealthyEvents, answered: bool) -> Records:
        """Write a chunk, with its extras behind the events that they belong to."""
        values: list[bytes | None] = self._encoding.values(healthy.batch).to_pylist()
        keys = [self._routing.keys[visitor] for visitor in healthy.visitor.tolist()]
        partition = self._routing.partition[healthy.visitor]
        placed = self._extras(healthy, values, partition) if self._faults or self._waiting else []
        count = len(values)
        if not placed:
            answers = Answers(healthy.batch, np.arange(count)) if answered else None
            return Records(keys, values, partition, healthy.due_us, answers)
        after = np.array([extra.after for extra in placed])
        order = np.argsort(np.concatenate([np.arange(count) * 2, after * 2 + 1]), kind="stable")
        keys += [self._routing.keys[extra.visitor] for extra in placed]
        values += [extra.extra.value for extra in placed]
        answers = Answers(
            healthy.batch,
            order,
            [extra.extra.event for extra in placed],
            [extra.fault for extra in placed],
            [extra.verdict for extra in placed],
        )
        indices = order.tolist()
        return Records(
            keys=[keys[n] for n in indices],
            values=[values[n] for n in indices],
            partition=np.concatenate([partition, partition[after]])[order],
            due_us=np.concatenate([healthy.due_us, healthy.due_us[after]])[order],
            answers=answers if answered else None,
        )

    def _extras(
        self, healthy: HealthyEvents, values: list[bytes | None], partition: np.ndarray
    ) -> list[_PlacedExtra]:
        number = np.arange(healthy.first, healthy.first + len(values), dtype=np.uint64)
        rows, hit = np.nonzero(draw(self._chosen, number[:, None]) < self._under)
        bases = healthy.batch.take(pa.array(rows)).to_pylist()
        rolls = draw(self._rolls[hit], number[rows]).tolist()
        ids = uuid_text(
            draw(self._high[hit], number[rows]), draw(self._low[hit], number[rows])
        ).to_pylist()
        placed: list[_PlacedExtra] = []
        for row, n, base, roll, fresh_id in zip(
            rows.tolist(), hit.tolist(), bases, rolls, ids, strict=True
        ):
            base["event_time"] = int(healthy.event_ms[row])
            visitor, fault = int(healthy.visitor[row]), self._faults[n]
            for extra in fault.make(self._context(base, values[row] or b"", fresh_id, roll)):
                if extra.due_ms > base["event_time"]:
                    self._queued += 1  # breaks ties in the heap by the order of arrival
                    waiting = self._waiting.setdefault(int(partition[row]), [])
                    heapq.heappush(
                        waiting, (extra.due_ms, self._queued, visitor, fault.name, extra)
                    )
                else:
                    verdict = self._judge(extra, base["event_time"])
                    placed.append(_PlacedExtra(row, visitor, fault.name, extra, verdict))
        placed += self._released(healthy, partition)
        return placed

    def _context(
        self, base: dict[str, Any], value: bytes, fresh_id: str, roll: int
    ) -> FaultContext:
        return FaultContext(
            event=base,
            value=value,
            fresh_id=fresh_id,
            roll=roll,
            lateness_ms=self._limits.lateness_ms,
            patience_ms=self._limits.patience_ms,
            latest_ms=self._limits.latest_ms,
            encoding=self._encoding,
        )

    def _released(self, healthy: HealthyEvents, partition: np.ndarray) -> list[_PlacedExtra]:
        """Send what waited, behind the first event of its partition that reaches the due time."""
        placed: list[_PlacedExtra] = []
        for number, waiting in self._waiting.items():
            rows = np.flatnonzero(partition == number)
            times = healthy.event_ms[rows]
            while waiting and len(rows) and waiting[0][0] <= times[-1]:
                due_ms, _, visitor, fault, extra = heapq.heappop(waiting)
                index = int(np.searchsorted(times, due_ms))
                verdict = self._judge(extra, int(times[index]))
                placed.append(_PlacedExtra(int(rows[index]), visitor, fault, extra, verdict))
        return placed

    def _judge(self, extra: ExtraRecord, watermark_ms: int) -> Verdict:
        """Judge an extra whose partition has reached a watermark."""
        if extra.event is None:
            return Verdict(REJECTED, extra.code)
        refused = judge_rules(extra.event, self._limits.latest_ms, self._limits.tolerance_ms)
        if refused is not None:
            return refused
        if extra.event["event_time"] < watermark_ms - self._limits.lateness_ms:
            return IS_LATE
        return {"no": IS_ACCEPTED, "same": IS_DUPLICATE, "other": IS_CONFLICT}[extra.repeat]
