"""The state of `flows/clean.py`: judge, count, and know how far back a restart must read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from flows.domain.batch import Decoded
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint, CommitNote, Progress
from flows.domain.family import Family
from flows.domain.judge import NO_TIME, Judge, Judged, Limits
from flows.domain.tallies import Tallies
from flows.domain.validate import Validator


@dataclass(frozen=True)
class Cleaned:
    """A judged batch, and which of its records are news (the others are read again only to rebuild
    the state).

    Shape: `counts` has the number of news for each of VERDICTS.
    """

    judged: Judged
    bodies: pa.Array
    is_new: np.ndarray
    counts: np.ndarray


class Cleaning:
    """Clean batches, one after another.

    State: watermarks, ids and open minutes, all rebuilt from the log; `checkpoints` says from
    where.
    """

    def __init__(self, family: Family, limits: Limits, budget: RejectBudget) -> None:
        validator = Validator(family)
        self._judge = Judge(validator, limits)
        self._lateness = limits.lateness // timedelta(milliseconds=1)
        self._budget = budget
        self.tallies = Tallies(validator.asked)
        self._progress = Progress()

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._judge.restore(partition, checkpoint.note.get("watermark", NO_TIME))
        self.tallies.restore(partition, checkpoint.note.get("clock", NO_TIME))
        self._progress.restore(partition, checkpoint)

    def clean(self, decoded: Decoded) -> Cleaned:
        """Judge and count a batch. Errors: RejectBudgetExceeded, and nothing else."""
        batch = decoded.batch
        for p, offset in batch.first_offsets.items():
            self._progress.remember(p, offset, self._note(p))
        needed = {p: self._judge.oldest(p) for p in self.tallies.opened_by(batch)}
        judged = self._judge.judge(decoded)
        is_new = self._progress.is_new(batch.partition, batch.offset)
        self.tallies.add(judged, is_new, needed)
        counts = self._budget.spend(batch.partition[is_new], judged.verdict[is_new])
        for p, offset in batch.last_offsets.items():
            self._progress.advance(p, offset)
        return Cleaned(judged, decoded.bodies, is_new, counts)

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Where each partition stands once all that was cleaned is in the outputs."""
        found = {}
        for p in self._progress.partitions:
            needed = [o for o in (self._judge.oldest(p), self.tallies.oldest(p)) if o is not None]
            found[p] = self._progress.checkpoint(p, min(needed, default=None), self._note(p))
        return found

    def watermarks(self) -> dict[int, int]:
        """Partition -> its watermark (ms), where it has one."""
        return {p: mark for p, mark in dict(self._judge.watermarks).items() if mark > NO_TIME}

    def sizes(self) -> dict[str, int]:
        """How many entries the state has."""
        return {"ids": self._judge.known_ids, "minutes": self.tallies.open_minutes}

    def budget_used(self) -> dict[int, float]:
        """Partition, or budget.ALL -> share of the reject budget that the current run has used."""
        return self._budget.used()

    def depends_on(self) -> CommitNote:
        """The settings that verdicts depend on."""
        return {"lateness": self._lateness}

    def _note(self, p: int) -> CommitNote:
        return {
            "watermark": self._judge.watermarks[p],
            "clock": self.tallies.clocks[p],
        } | self.depends_on()
