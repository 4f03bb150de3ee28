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
from generators.faults.catalogue import FAULTS, Extra, Situation
from generators.records import Answers, Records
from generators.rng import draw, stream, threshold, uuid_text
from generators.sending.encoding import Wire
from generators.shoppers.lanes import Healthy


@dataclass(frozen=True)
class Judging:
    """What verdicts depend on. Time: `latest_ms` is the end of the run, on the event clock and the
    wall clock.
    """

    lateness_ms: int
    tolerance_ms: int
    patience_ms: int
    latest_ms: int


@dataclass(frozen=True)
class _Placed:
    after: int
    visitor: int
    fault: str
    extra: Extra
    verdict: Verdict


class Injector:
    """Turn stretches of the healthy stream into records.

    State: the extras that wait for their partition's watermark. Healthy event times never descend,
    and no extra is newer than the healthy event before it, so the watermark of a partition is its
    last healthy event's time.
    """

    def __init__(
        self,
        seed: int,
        shares: Mapping[str, float],
        judging: Judging,
        wire: Wire,
        keys: list[bytes],
        partition_of_visitor: np.ndarray,
    ) -> None:
        self._judging, self._wire = judging, wire
        self._keys, self._partition = keys, partition_of_visitor
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
        self._waiting: dict[int, list[tuple[int, int, int, str, Extra]]] = {}
        self._numbered = 0

    def compose(self, healthy: Healthy, answered: bool) -> Records:
        """Write a stretch, with its extras behind the events that they belong to."""
        values: list[bytes | None] = self._wire.values(healthy.batch).to_pylist()
        keys = [self._keys[visitor] for visitor in healthy.visitor.tolist()]
        partition = self._partition[healthy.visitor]
        placed = self._extras(healthy, values, partition) if self._faults or self._waiting else []
        count = len(values)
        if not placed:
            answers = Answers(healthy.batch, np.arange(count)) if answered else None
            return Records(keys, values, partition, healthy.due_us, answers)
        after = np.array([extra.after for extra in placed])
        order = np.argsort(np.concatenate([np.arange(count) * 2, after * 2 + 1]), kind="stable")
        keys += [self._keys[extra.visitor] for extra in placed]
        values += [extra.extra.value for extra in placed]
        answers = Answers(
            healthy.batch,
            order,
            [extra.extra.event for extra in placed],
            [extra.fault for extra in placed],
            [extra.verdict for extra in placed],
        )
        at = order.tolist()
        return Records(
            keys=[keys[n] for n in at],
            values=[values[n] for n in at],
            partition=np.concatenate([partition, partition[after]])[order],
            due_us=np.concatenate([healthy.due_us, healthy.due_us[after]])[order],
            answers=answers if answered else None,
        )

    def _extras(
        self, healthy: Healthy, values: list[bytes | None], partition: np.ndarray
    ) -> list[_Placed]:
        number = np.arange(healthy.first, healthy.first + len(values), dtype=np.uint64)
        rows, hit = np.nonzero(draw(self._chosen, number[:, None]) < self._under)
        bases = healthy.batch.take(pa.array(rows)).to_pylist()
        rolls = draw(self._rolls[hit], number[rows]).tolist()
        ids = uuid_text(
            draw(self._high[hit], number[rows]), draw(self._low[hit], number[rows])
        ).to_pylist()
        placed: list[_Placed] = []
        for row, n, base, roll, fresh_id in zip(
            rows.tolist(), hit.tolist(), bases, rolls, ids, strict=True
        ):
            base["event_time"] = int(healthy.event_ms[row])
            visitor, fault = int(healthy.visitor[row]), self._faults[n]
            for extra in fault.make(self._situation(base, values[row] or b"", fresh_id, roll)):
                if extra.due_ms > base["event_time"]:
                    self._numbered += 1
                    waiting = self._waiting.setdefault(int(partition[row]), [])
                    heapq.heappush(
                        waiting, (extra.due_ms, self._numbered, visitor, fault.name, extra)
                    )
                else:
                    placed.append(
                        _Placed(
                            row, visitor, fault.name, extra, self._judge(extra, base["event_time"])
                        )
                    )
        placed += self._released(healthy, partition)
        return placed

    def _situation(self, base: dict[str, Any], value: bytes, fresh_id: str, roll: int) -> Situation:
        return Situation(
            event=base,
            value=value,
            fresh_id=fresh_id,
            roll=roll,
            lateness_ms=self._judging.lateness_ms,
            patience_ms=self._judging.patience_ms,
            latest_ms=self._judging.latest_ms,
            wire=self._wire,
        )

    def _released(self, healthy: Healthy, partition: np.ndarray) -> list[_Placed]:
        """Send what waited, behind the first event of its partition that reaches the due time."""
        placed: list[_Placed] = []
        for number, waiting in self._waiting.items():
            rows = np.flatnonzero(partition == number)
            times = healthy.event_ms[rows]
            while waiting and len(rows) and waiting[0][0] <= times[-1]:
                due_ms, _, visitor, fault, extra = heapq.heappop(waiting)
                at = int(np.searchsorted(times, due_ms))
                placed.append(
                    _Placed(
                        int(rows[at]), visitor, fault, extra, self._judge(extra, int(times[at]))
                    )
                )
        return placed

    def _judge(self, extra: Extra, watermark_ms: int) -> Verdict:
        """Say what becomes of an extra whose partition stands at a watermark."""
        if extra.event is None:
            return Verdict(REJECTED, extra.code)
        refused = judge_rules(extra.event, self._judging.latest_ms, self._judging.tolerance_ms)
        if refused is not None:
            return refused
        if extra.event["event_time"] < watermark_ms - self._judging.lateness_ms:
            return IS_LATE
        return {"no": IS_ACCEPTED, "same": IS_DUPLICATE, "other": IS_CONFLICT}[extra.repeat]
