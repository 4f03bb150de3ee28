"""Stop before a topic is emptied into the dead letters.

When nearly every record is refused, the fault is rather in our contract or settings than in the
data: what waits on the topic is read once that is mended, what became a dead letter is not.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from flows.domain.batch import rows_by_partition
from flows.domain.codes import ACCEPTED, DUPLICATE, INVALID, VERDICTS
from flows.domain.errors import RejectBudgetExceeded

ALL = -1
"""The key of the run of all partitions together; no partition has it."""


class RejectBudget:
    """Watch the share of refused records, run by run, of each partition and of all together.

    A run ends with the batch that brings it to `records` records, and the next one begins at 0.

    State: the counts of the current runs.
    Errors: RejectBudgetExceeded when at least `ratio` of a run was refused; it names the commonest
    code.
    """

    def __init__(self, ratio: float, records: int) -> None:
        self._ratio = ratio
        self._records = records
        self._runs: dict[int, np.ndarray] = {}

    def restore(self, partition: int, accepted: int, refused: int) -> None:
        """Begin a partition with the run that a stop left.

        A restart does not give the budget anew, or a supervisor that starts a flow again and again
        would empty the topic after all.
        """
        if accepted + refused:
            run = np.zeros(len(VERDICTS), np.int64)
            # of the refused ones it is not known any more with which code
            run[ACCEPTED], run[INVALID] = accepted, refused
            for key in (partition, ALL):
                self._runs[key] = self._runs.get(key, 0) + run

    def run_of(self, partition: int) -> tuple[int, int]:
        """Give how many records of the partition's run were trusted, and how many refused."""
        run = self._runs.get(partition)
        if run is None:
            return 0, 0
        refused = _refused(run)
        return int(run.sum()) - refused, refused

    def spend(self, partition: np.ndarray, verdict: np.ndarray) -> np.ndarray:
        """Count a batch, and give how many of its records have each of VERDICTS."""
        # One bad producer can fill a single partition with garbage, which the good records of the
        # others would hide; many partitions can each stay too short to end a run of their own.
        for p, rows in rows_by_partition(partition).items():
            self._extend_run(p, _count(verdict[rows]))
        counts = _count(verdict)
        self._extend_run(ALL, counts)
        return counts

    def _extend_run(self, key: int, counts: np.ndarray) -> None:
        # A new array, never in place: `used` reads the old one from another thread.
        run = self._runs[key] = self._runs.get(key, 0) + counts
        total = int(run.sum())
        if total < self._records:
            return
        refused = _refused(run)
        if refused >= self._ratio * total:
            raise RejectBudgetExceeded(_explanation(key, run, refused, total))
        del self._runs[key]

    def used(self) -> dict[int, float]:
        """Map each partition, and ALL, to the share of its budget that the current run has used.

        The budget is used up at 1. A short run is measured as if the rest of it were accepted.
        """
        return {
            p: _refused(run) / (self._ratio * max(self._records, int(run.sum())))
            for p, run in list(self._runs.items())
        }


def _count(verdict: np.ndarray) -> np.ndarray:
    return np.bincount(verdict, minlength=len(VERDICTS))


def _refused(run: np.ndarray) -> int:
    return int(run.sum() - run[ACCEPTED] - run[DUPLICATE])


def _explanation(key: int, run: np.ndarray, refused: int, total: int) -> str:
    by_code = Counter(
        {code: int(count) for (_, code), count in zip(VERDICTS, run, strict=True) if code}
    )
    code, count = by_code.most_common(1)[0]
    where = "all partitions" if key == ALL else f"partition {key}"
    return (
        f"{where}: {refused:,} of the last {total:,} records were refused, {count:,} of them with"
        f" {code}; the last of them are not committed. Fix the cause, or set"
        " SHOPSTREAM_REJECT_BUDGET_RATIO above 1 to go on"
    )
