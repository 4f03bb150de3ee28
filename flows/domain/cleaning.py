"""The state of `flows/clean.py`: judge, count, and know how far back a restart must read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from flows.domain.batch import Decoded
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint, CommitNote, Progress
from flows.domain.codes import ACCEPTED
from flows.domain.family import Family
from flows.domain.judge import NO_TIME, Judge, Judged, Limits
from flows.domain.losses import Loss
from flows.domain.tallies import Tallies
from flows.domain.validate import Validator


@dataclass(frozen=True)
class Cleaned:
    """A judged batch, and which of its records are new.

    The others are read again only to rebuild the state.

    Shape: `bodies` has one entry per event, `is_new` one per record, `counts` the number of new
    records for each of VERDICTS. `accepted` has one entry per record: how many events of its
    partition were accepted up to and including it (of records that are not new: nothing certain).
    """

    judged: Judged
    bodies: pa.Array
    is_new: np.ndarray
    counts: np.ndarray
    accepted: np.ndarray


class Cleaning:
    """Clean batches, one after another.

    State: watermarks, ids and open minutes, all rebuilt from the log; `checkpoints` says from
    where.
    """

    def __init__(
        self, family: Family, limits: Limits, budget: RejectBudget, kernels: bool = True
    ) -> None:
        validator = Validator(family)
        self._judge = Judge(validator, limits, kernels)
        self._lateness = limits.lateness // timedelta(milliseconds=1)
        self._budget = budget
        self.tallies = Tallies(validator.rules)
        self._progress = Progress()
        # As of `resume`, not of `rewind`: verdicts of records that are read again may differ from
        # those that they had, since they too can depend on records before `rewind`.
        self._accepted: dict[int, int] = {}

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._judge.restore(partition, checkpoint.note.get("watermark", NO_TIME))
        note = checkpoint.note
        self.tallies.restore(partition, note.get("clock", NO_TIME), note.get("doubt", 0))
        self._progress.restore(partition, checkpoint)
        self._accepted[partition] = checkpoint.note.get("accepted", 0)
        self._budget.restore(
            partition, checkpoint.note.get("trusted", 0), checkpoint.note.get("refused", 0)
        )
        self.tallies.restore_loss(
            partition, checkpoint.note.get("lost", 0), checkpoint.note.get("lost_at", NO_TIME)
        )

    def lose(self, loss: Loss) -> None:
        """Take note of records that were gone before they were read."""
        self.tallies.lose(loss)

    def clean(self, decoded: Decoded) -> Cleaned:
        """Judge and count a batch.

        Errors: RejectBudgetExceeded, and nothing else.
        """
        batch = decoded.batch
        # The order matters. First what must be seen as it stands before the batch: the note that a
        # restart at its first offset begins from, and the oldest id that a minute which the batch
        # begins depends on. Judging moves the watermarks and forgets ids.
        for p, offset in batch.first_offsets.items():
            self._progress.remember(p, offset, self._note(p))
        oldest_ids = {p: self._judge.oldest(p) for p in self.tallies.opened_by(batch)}
        judged = self._judge.judge(decoded)
        is_new = self._progress.is_new(batch.partition, batch.offset)
        # All records are counted, since a minute is rebuilt by counting its records again; but only
        # new ones spend the budget: the verdicts of the others are in the outputs already.
        accepted = self._count_accepted(judged, is_new)
        self.tallies.add(judged, is_new, oldest_ids, accepted)
        counts = self._budget.spend(batch.partition[is_new], judged.verdict[is_new])
        # Last, so that the checkpoint of a batch that exceeds the budget is the one before it: the
        # batch is judged again after a restart.
        for p, offset in batch.last_offsets.items():
            self._progress.advance(p, offset)
        return Cleaned(judged, decoded.bodies, is_new, counts, accepted)

    def _count_accepted(self, judged: Judged, is_new: np.ndarray) -> np.ndarray:
        newly = (judged.verdict == ACCEPTED) & is_new
        accepted = np.empty(len(newly), np.int64)
        for p, rows in judged.batch.rows_by_partition.items():
            accepted[rows] = self._accepted[p] + np.cumsum(newly[rows])
            self._accepted[p] = int(accepted[rows[-1]])
        return accepted

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Give where each partition stands once all that was cleaned is in the outputs."""
        checkpoints = {}
        for p in self._progress.partitions:
            needed = [o for o in (self._judge.oldest(p), self.tallies.oldest(p)) if o is not None]
            checkpoint = self._progress.checkpoint(p, min(needed, default=None), self._note(p))
            note = checkpoint.note | self._note_at_resume(p)
            checkpoints[p] = replace(checkpoint, note=note)
        return checkpoints

    def _note_at_resume(self, p: int) -> CommitNote:
        lost, minute = self.tallies.recent_loss(p)
        loss = {"lost": lost, "lost_at": minute} if lost else {}
        trusted, refused = self._budget.run_of(p)
        return {"accepted": self._accepted[p], "trusted": trusted, "refused": refused} | loss

    def watermarks(self) -> dict[int, int]:
        """Give the watermark (ms) of each partition that has one."""
        # a copy by `dict`, because telemetry asks from a thread of its own
        return {p: mark for p, mark in dict(self._judge.watermarks).items() if mark > NO_TIME}

    def sizes(self) -> dict[str, int]:
        """Count the entries of the state, by kind."""
        return {"ids": self._judge.known_ids, "minutes": self.tallies.open_minutes}

    def budget_used(self) -> dict[int, float]:
        """Give the share of the reject budget that the current run has used.

        Shape: by partition, and by budget.ALL.
        """
        return self._budget.used()

    def depends_on(self) -> CommitNote:
        """Name the settings that verdicts depend on, with their values."""
        return {"lateness": self._lateness}

    def _note(self, p: int) -> CommitNote:
        return {
            "watermark": self._judge.watermarks[p],
            "clock": self.tallies.clocks[p],
            "doubt": self.tallies.doubts[p],
        } | self.depends_on()
