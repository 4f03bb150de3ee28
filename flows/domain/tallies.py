"""Count verdicts and rules: absolute numbers per partition and minute of the Kafka timestamp.

Absolute, so the newest number of a minute replaces those before it. A record whose timestamp is
further behind its partition's newest than the grace counts in the oldest minute that is still open.
Brokers that stamp records themselves have none of these; where producers stamp them, memory stays
bounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.domain import rules
from flows.domain.batch import Batch
from flows.domain.codes import CONFLICT, DUPLICATE, LATE, VERDICTS, QualityDimension
from flows.domain.judge import NO_TIME, Judged
from flows.domain.losses import Loss
from flows.domain.rules import Rule

MINUTE = 60_000
# A flush leaves two minutes per partition open: the newest and the one before it.
GRACE = 60_000
# Longer than a night without a record, shorter than the day by which clocks are wrong.
LEAP = 12 * 3_600_000
MISSING = "RECORD_MISSING"
TOO_LARGE = next(i for i, (_, code) in enumerate(VERDICTS) if code == "TOO_LARGE")


@dataclass(frozen=True)
class OutcomeTally:
    """How many records of a partition and minute had an outcome."""

    partition: int
    minute: int
    outcome: str
    code: str
    records: int


@dataclass(frozen=True)
class RuleTally:
    """How often a rule was checked and broken in a partition and minute."""

    partition: int
    minute: int
    rule: str
    dimension: QualityDimension
    checked: int
    broken: int


@dataclass(frozen=True)
class OffsetTally:
    """How far a partition was read by the end of a minute.

    `offsets` = the records of all outcomes + `control` + `lost`. `accepted` counts the events of
    the partition that were accepted by then, in all.
    """

    partition: int
    minute: int
    offsets: int
    control: int
    lost: int
    accepted: int


@dataclass(frozen=True)
class Changes:
    """What changed since the last call of `take`."""

    outcomes: list[OutcomeTally]
    rules: list[RuleTally]
    offsets: list[OffsetTally]
    losses: list[Loss]


@dataclass
class Minute:
    """Counts of one partition and minute.

    State: one entry per outcome and per rule. `first` is the offset from which its verdicts can be
    given again. That can be before its first record: the number of duplicates depends on the ids
    that were known when the minute began, and the oldest of them may be forgotten before it ends.
    """

    first: int
    verdicts: np.ndarray
    checked: dict[str, int]
    broken: dict[str, int]
    control: int = 0
    lost: int = 0
    accepted: int = 0


class Tallies:
    """Keep the counts of the open minutes.

    State: the minutes within the grace of each partition's newest timestamp.
    """

    def __init__(self, validated: Sequence[Rule]) -> None:
        self._validated = validated
        self._dimensions = {r.name: r.dimension for r in (*validated, *rules.JUDGED_RULES)}
        self.clocks: dict[int, int] = {}
        self.doubts: dict[int, int] = {}
        self._open: dict[tuple[int, int], Minute] = {}
        self._changed: set[tuple[int, int]] = set()
        self._last: dict[int, tuple[int, tuple[int, int]]] = {}
        # losses that no minute has yet, the last one of each partition that one has, and those that
        # the ledger has not
        self._unplaced: dict[int, int] = {}
        self._placed: dict[int, tuple[int, int]] = {}
        self._untold: list[Loss] = []

    def restore(self, partition: int, clock: int, doubt: int = 0) -> None:
        """Begin a partition with its clock as it was at `rewind`.

        `doubt` is 1 when the record before had a timestamp that was not believed.
        """
        self.clocks[partition], self.doubts[partition] = clock, doubt

    def lose(self, loss: Loss) -> None:
        """Count a loss in the minute of the next new record, and tell it."""
        p = loss.partition
        self._unplaced[p] = self._unplaced.get(p, 0) + loss.records
        self._untold.append(loss)
        if p in self._last:
            self._last[p] = max(self._last[p][0], loss.end - 1), self._last[p][1]

    def recent_loss(self, partition: int) -> tuple[int, int]:
        """Give the records that the minute of the last loss lost, and the minute."""
        return self._placed.get(partition, (0, 0))

    def restore_loss(self, partition: int, records: int, minute: int) -> None:
        """Begin a partition with its last loss: no record of the log tells of it."""
        if records:
            self._placed[partition] = records, minute

    def oldest(self, partition: int) -> int | None:
        """Give the offset from which the counts of the open minutes can be rebuilt."""
        return min((m.first for (p, _), m in self._open.items() if p == partition), default=None)

    def opened_by(self, batch: Batch) -> list[int]:
        """Name the partitions of which the batch may begin a minute."""
        # It may name one too many, which costs a search for its oldest id, but never one too few.
        partitions = []
        for p in batch.first_offsets:
            stamps = batch.timestamp[batch.partition == p]
            oldest = max(int(stamps.min()), self.clocks[p] - GRACE)
            newest = max(int(stamps.max()), oldest)
            if newest > self.clocks[p] + LEAP:
                # some of them may not be believed, and there are many minutes in between
                partitions.append(p)
                continue
            minutes = range(oldest // MINUTE * MINUTE, newest + 1, MINUTE)
            if any((p, minute) not in self._open for minute in minutes):
                partitions.append(p)
        return partitions

    def add(
        self,
        judged: Judged,
        is_new: np.ndarray,
        oldest_ids: dict[int, int | None],
        accepted: np.ndarray,
    ) -> None:
        """Count a batch.

        Shape: `is_new` and `accepted` (how many events were accepted by then) have one entry per
        record; `oldest_ids` has, for each partition of `opened_by`, the offset of the oldest id
        that was known before the batch.
        """
        batch = judged.batch
        # The clock is taken record by record, as the watermark is, so that a minute is the same
        # wherever batches are cut.
        stamp = self._believed(batch)
        keys, group, firsts = minutes_of(batch, stamp // MINUTE * MINUTE)
        count = len(keys)
        lasts = np.zeros(count, np.int64)
        np.maximum.at(lasts, group, np.arange(len(batch)))
        # one bincount over (minute, verdict) pairs gives the matrix of all minutes
        verdicts = np.bincount(
            group * len(VERDICTS) + judged.verdict, minlength=count * len(VERDICTS)
        ).reshape(count, len(VERDICTS))
        checked, broken = count_rules(judged, self._validated, group, count)
        # Records that are read again count too, as they rebuild their minute; but a minute without
        # a new record is on the topic already, so it has not changed.
        changes = np.bincount(group[is_new], minlength=count) > 0
        for g, key in enumerate(keys):
            if key not in self._open:
                zero = np.zeros(len(VERDICTS), np.int64)
                oldest_id = oldest_ids.get(key[0])
                first = firsts[g] if oldest_id is None else min(oldest_id, firsts[g])
                self._open[key] = Minute(first, zero, defaultdict(int), defaultdict(int))
                lost, minute = self.recent_loss(key[0])
                if minute == key[1]:
                    self._open[key].lost = lost
            entry = self._open[key]
            entry.verdicts += verdicts[g]
            for name in checked:
                entry.checked[name] += int(checked[name][g])
            for name in broken:
                entry.broken[name] += int(broken[name][g])
            if changes[g]:
                self._changed.add(key)
                entry.accepted = int(accepted[lasts[g]])
                self._place_loss(key)
        self._count_control(batch, keys, group, is_new)

    def _believed(self, batch: Batch) -> np.ndarray:
        """Give the time in whose minute each record counts.

        It is the record's own, but never more than the grace before its partition's clock. The
        clock is the newest timestamp so far; a leap by more than LEAP is believed when the next
        record is there, too, and until then the record counts in the minute before it: else one
        wrong stamp would draw all records of the next day into one minute.
        """
        stamp = batch.timestamp.copy()
        for p, rows in batch.rows_by_partition.items():
            own = stamp[rows]
            clock = self.clocks[p] if self.clocks[p] > NO_TIME else int(own[0])
            if not self.doubts.get(p) and int(own.max()) <= clock + LEAP:
                newest = np.maximum.accumulate(np.maximum(own, clock))
                stamp[rows] = np.maximum(own, newest - GRACE)
                self.clocks[p] = int(newest[-1])
            else:
                stamp[rows] = self._believed_one_by_one(p, clock, own.tolist())
        return stamp

    def _believed_one_by_one(self, p: int, clock: int, stamps: list[int]) -> list[int]:
        believed = []
        doubt = self.doubts.get(p, 0)
        for stamp in stamps:
            leaps = stamp > clock + LEAP
            if not leaps or doubt:
                clock = max(clock, stamp)
            doubt = int(leaps and not doubt)
            believed.append(max(min(stamp, clock), clock - GRACE))
        self.clocks[p], self.doubts[p] = clock, doubt
        return believed

    def _place_loss(self, key: tuple[int, int]) -> None:
        lost = self._unplaced.pop(key[0], 0)
        if lost:
            self._open[key].lost += lost
            self._placed[key[0]] = self._open[key].lost, key[1]

    def _count_control(
        self, batch: Batch, keys: list[tuple[int, int]], group: np.ndarray, is_new: np.ndarray
    ) -> None:
        """Count offsets without a record in the minute of the record before them.

        Within a log they are markers of transactions, or records of those that were aborted: what
        retention or a crash takes is gone at one of the ends, and found by the source.
        """
        # Not in that of the record after them: a restart that begins with that record could not see
        # the gap. The minute of the newest record is always open, and a restart reads open minutes
        # again, so it reads the record before a gap; `_last` carries it into the next batch. So
        # neither restarts nor cuts make a difference
        # (test_any_batching_and_any_restart_gives_the_same_verdicts).
        for p, rows in batch.rows_by_partition.items():
            offsets = batch.offset[rows]
            last, key = self._last.get(p, (int(offsets[0]) - 1, keys[group[rows[0]]]))
            missing = np.diff(offsets, prepend=last) - 1
            # gaps are rare (a transaction marker, a compacted record), so a loop is cheap
            for i in np.flatnonzero(missing):
                if i:
                    key = keys[group[rows[i - 1]]]
                self._open[key].control += int(missing[i])
                # news if the record after the gap is: the gap was seen when that was read
                if is_new[rows[i]]:
                    self._changed.add(key)
            self._last[p] = int(offsets[-1]), keys[group[rows[-1]]]

    @property
    def open_minutes(self) -> int:
        """Count the open minutes of all partitions."""
        return len(self._open)

    def take(self) -> Changes:
        """Give the counts that changed since the last call.

        Minutes that cannot change any more are forgotten.
        """
        changes = Changes([], [], [], self._untold)
        self._untold = []
        for key in sorted(self._changed):
            self._tell(key, changes)
        self._changed.clear()
        # after they were given: what closed since the last call has its last numbers among them
        for p, minute in list(self._open):
            if minute + MINUTE <= self.clocks[p] - GRACE:
                del self._open[p, minute]
        return changes

    def _tell(self, key: tuple[int, int], changes: Changes) -> None:
        entry = self._open[key]
        verdicts = entry.verdicts.tolist()
        for (outcome, code), n in zip(VERDICTS, verdicts, strict=True):
            if n:
                changes.outcomes.append(OutcomeTally(*key, outcome, code, n))
        lost = {MISSING: entry.lost} if entry.lost else {}
        for rule, n in entry.checked.items():
            missed = lost.get(rule, 0)
            if n + missed:
                broken = entry.broken.get(rule, 0) + missed
                dimension = self._dimensions[rule]
                changes.rules.append(RuleTally(*key, rule, dimension, n + missed, broken))
        offsets = sum(verdicts) + entry.control + entry.lost
        changes.offsets.append(
            OffsetTally(*key, offsets, entry.control, entry.lost, entry.accepted)
        )


def minutes_of(
    batch: Batch, minutes: np.ndarray
) -> tuple[list[tuple[int, int]], np.ndarray, list[int]]:
    """Group a batch by partition and minute.

    Shape: `minutes` and the second result have one entry per record, the latter an index into the
    (partition, minute) keys of the first; the third result has the first offset of each key.
    """
    keys: list[tuple[int, int]] = []
    firsts: list[int] = []
    group = np.empty(len(batch), np.int64)
    for p, rows in batch.rows_by_partition.items():
        minute_of_row = minutes[rows]
        for minute in np.unique(minute_of_row).tolist():
            group_rows = rows[minute_of_row == minute]
            group[group_rows] = len(keys)
            keys.append((p, minute))
            firsts.append(int(batch.offset[group_rows[0]]))
    return keys, group, firsts


def count_rules(
    judged: Judged, validated: Sequence[Rule], group: np.ndarray, count: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Count how often each rule was checked, and how often broken.

    Shape: by the rule's name, one number per group.
    """

    def by_group(rows: np.ndarray) -> np.ndarray:
        return np.bincount(group[rows], minlength=count)

    readable = judged.events["row"].to_numpy()
    everything, read = np.bincount(group, minlength=count), by_group(readable)
    verdict = judged.verdict
    # rules with the same condition share its mask (Validator): each mask is counted once
    counts: dict[int, np.ndarray] = {}
    checked = {r.name: read for r in validated if r.name not in judged.findings.checked}
    for name, mask in judged.findings.checked.items():
        if id(mask) not in counts:
            counts[id(mask)] = by_group(readable[mask])
        checked[name] = counts[id(mask)]
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
