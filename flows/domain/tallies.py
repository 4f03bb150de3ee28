"""Count what the judge said: absolute numbers a partition and minute of the Kafka timestamp, so
that the newest wins.

A record whose timestamp is further behind its partition's newest than the grace counts in the
oldest minute that is still open: brokers that stamp records themselves never send one, and memory
stays bounded for those that do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.domain import rules
from flows.domain.batch import Batch, running_maximum
from flows.domain.codes import QualityDimension
from flows.domain.judge import CONFLICT, DUPLICATE, LATE, VERDICTS, Judged
from flows.domain.rules import Rule

MINUTE = 60_000
GRACE = 60_000
MISSING = "RECORD_MISSING"
TOO_LARGE = next(i for i, (_, code) in enumerate(VERDICTS) if code == "TOO_LARGE")


@dataclass(frozen=True)
class OutcomeTally:
    partition: int
    minute: int
    outcome: str
    code: str
    records: int


@dataclass(frozen=True)
class RuleTally:
    partition: int
    minute: int
    rule: str
    dimension: QualityDimension
    checked: int
    broken: int


@dataclass
class Minute:
    """Counts of one partition and minute.

    State: one entry an outcome and a rule. `first` is from where its verdicts can be told again:
    the oldest id that was known when it began may be forgotten before it ends, and the count of
    duplicates depends on it.
    """

    first: int
    verdicts: np.ndarray
    checked: dict[str, int]
    broken: dict[str, int]


class Tallies:
    """Keep the counts of the open minutes. State: the minutes within the grace of each partition's
    newest timestamp.
    """

    def __init__(self, asked: Sequence[Rule]) -> None:
        self._asked = asked
        self._dimensions = {r.name: r.dimension for r in (*asked, *rules.JUDGED_RULES)}
        self.clocks: dict[int, int] = {}
        self._open: dict[tuple[int, int], Minute] = {}
        self._changed: set[tuple[int, int]] = set()
        self._last: dict[int, tuple[int, tuple[int, int]]] = {}

    def restore(self, partition: int, clock: int) -> None:
        self.clocks[partition] = clock

    def oldest(self, partition: int) -> int | None:
        """Offset from where the counts of the open minutes can be rebuilt."""
        return min((m.first for (p, _), m in self._open.items() if p == partition), default=None)

    def opened_by(self, batch: Batch) -> list[int]:
        """The partitions of which a batch may begin a minute."""
        found = []
        for p in batch.first_offsets:
            stamps = batch.timestamp[batch.partition == p]
            oldest = max(int(stamps.min()), self.clocks[p] - GRACE)
            newest = max(int(stamps.max()), oldest)
            minutes = range(oldest // MINUTE * MINUTE, newest + 1, MINUTE)
            if any((p, minute) not in self._open for minute in minutes):
                found.append(p)
        return found

    def add(self, judged: Judged, is_new: np.ndarray, needed: dict[int, int | None]) -> None:
        """Count a batch; only minutes of `is_new` records are said to have changed, the others are
        being rebuilt.

        `needed` holds, for the partitions that may begin a minute, the oldest id that was known
        before the batch.
        """
        batch = judged.batch
        newest = running_maximum(batch.partition, batch.timestamp, self.clocks)
        stamp = np.maximum(batch.timestamp, np.maximum(newest, batch.timestamp) - GRACE)
        places, group, firsts = minutes_of(batch, stamp // MINUTE * MINUTE)
        count = len(places)
        verdicts = np.bincount(
            group * len(VERDICTS) + judged.verdict, minlength=count * len(VERDICTS)
        )
        checked, broken = count_rules(judged, self._asked, group, count)
        changes = np.bincount(group[is_new], minlength=count) > 0
        for g, (p, minute) in enumerate(places):
            key = p, minute
            if key not in self._open:
                zero = np.zeros(len(VERDICTS), np.int64)
                known = needed.get(p)
                first = int(firsts[g]) if known is None else min(known, int(firsts[g]))
                self._open[key] = Minute(first, zero, defaultdict(int), defaultdict(int))
            entry = self._open[key]
            entry.verdicts += verdicts.reshape(count, -1)[g]
            for name in checked:
                entry.checked[name] += int(checked[name][g])
            for name in broken:
                entry.broken[name] += int(broken[name][g])
            if changes[g]:
                self._changed.add(key)
        self._count_missing(batch, places, group, is_new)

    def _count_missing(
        self, batch: Batch, places: list[tuple[int, int]], group: np.ndarray, is_new: np.ndarray
    ) -> None:
        """Count offsets without a record in the minute of the record before them.

        That minute is open as long as no newer record came, and rebuilt after a restart: where the
        batches were cut does not matter
        (test_any_batching_and_any_restart_gives_the_same_verdicts).
        """
        for p, rows in batch.rows_by_partition.items():
            offsets = batch.offset[rows]
            last, key = self._last.get(p, (int(offsets[0]) - 1, places[group[rows[0]]]))
            missing = np.diff(offsets, prepend=last) - 1
            for i in np.flatnonzero(missing):
                if i:
                    key = places[group[rows[i - 1]]]
                self._open[key].checked[MISSING] += int(missing[i])
                self._open[key].broken[MISSING] += int(missing[i])
                if is_new[rows[i]]:
                    self._changed.add(key)
            self._last[p] = int(offsets[-1]), places[group[rows[-1]]]

    @property
    def open_minutes(self) -> int:
        return len(self._open)

    def take(self) -> tuple[list[OutcomeTally], list[RuleTally]]:
        """The counts that changed since the last call; minutes that can change no more are
        forgotten.
        """
        outcomes: list[OutcomeTally] = []
        by_rule: list[RuleTally] = []
        for key in sorted(self._changed):
            entry = self._open[key]
            for (outcome, code), n in zip(VERDICTS, entry.verdicts.tolist(), strict=True):
                if n:
                    outcomes.append(OutcomeTally(*key, outcome, code, n))
            for rule, n in entry.checked.items():
                if n:
                    by_rule.append(
                        RuleTally(*key, rule, self._dimensions[rule], n, entry.broken.get(rule, 0))
                    )
        self._changed.clear()
        for p, minute in list(self._open):
            if minute + MINUTE <= self.clocks[p] - GRACE:
                del self._open[p, minute]
        return outcomes, by_rule


def minutes_of(
    batch: Batch, minutes: np.ndarray
) -> tuple[list[tuple[int, int]], np.ndarray, list[int]]:
    """The (partition, minute) places of a batch, which of them each record belongs to, and the
    first offset of each.
    """
    places: list[tuple[int, int]] = []
    firsts: list[int] = []
    group = np.empty(len(batch), np.int64)
    for p, rows in batch.rows_by_partition.items():
        mine = minutes[rows]
        for minute in np.unique(mine).tolist():
            here = rows[mine == minute]
            group[here] = len(places)
            places.append((p, minute))
            firsts.append(int(batch.offset[here[0]]))
    return places, group, firsts


def count_rules(
    judged: Judged, asked: Sequence[Rule], group: np.ndarray, count: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """How often each rule was checked and broken, by group."""

    def by_group(rows: np.ndarray) -> np.ndarray:
        return np.bincount(group[rows], minlength=count)

    readable = judged.events["row"].to_numpy()
    everything, read = np.bincount(group, minlength=count), by_group(readable)
    verdict = judged.verdict
    once: dict[int, np.ndarray] = {}
    checked = {r.name: read for r in asked if r.name not in judged.findings.checked}
    for name, mask in judged.findings.checked.items():
        if id(mask) not in once:
            once[id(mask)] = by_group(readable[mask])
        checked[name] = once[id(mask)]
    broken = {name: by_group(readable[rows]) for name, rows in judged.findings.broken.items()}
    large = by_group(np.flatnonzero(verdict == TOO_LARGE))
    checked |= {
        MISSING: everything,
        "RECORD_TOO_LARGE": everything,
        "RECORD_UNREADABLE": everything - large,
        "EVENT_TIME_LATE": by_group(readable[judged.timed]),
        "EVENT_ID_REPEATED": (identified := by_group(readable[judged.identified])),
        "EVENT_ID_CONFLICT": identified,
    }
    broken |= {
        "RECORD_TOO_LARGE": large,
        "RECORD_UNREADABLE": everything - large - read,
        "EVENT_TIME_LATE": by_group(np.flatnonzero(verdict == LATE)),
        "EVENT_ID_REPEATED": by_group(np.flatnonzero(verdict == DUPLICATE)),
        "EVENT_ID_CONFLICT": by_group(np.flatnonzero(verdict == CONFLICT)),
    }
    return checked, broken
