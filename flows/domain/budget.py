"""Stop before a topic is emptied into the dead letters: nearly everything refused means that we are
wrong, not they.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from flows.domain.batch import rows_by_partition
from flows.domain.errors import RejectBudgetExceeded
from flows.domain.judge import ACCEPTED, DUPLICATE, VERDICTS

ALL = -1


class RejectBudget:
    """Watch the share of refused records of each partition and of all together, run by run.

    State: the counts of the current run. Errors: RejectBudgetExceeded when a run of at least
    `records` records had at least `ratio` of them refused; it names the commonest code.
    """

    def __init__(self, ratio: float, records: int) -> None:
        self._ratio = ratio
        self._records = records
        self._runs: dict[int, np.ndarray] = {}

    def spend(self, partition: np.ndarray, verdict: np.ndarray) -> np.ndarray:
        """Count a batch; gives how many of its records have each of VERDICTS."""
        counts = np.zeros(len(VERDICTS), np.int64)
        for p, rows in (rows_by_partition(partition) | {ALL: slice(None)}).items():
            counts = np.bincount(verdict[rows], minlength=len(VERDICTS))
            run = self._runs[p] = self._runs.get(p, 0) + counts
            total = int(run.sum())
            if total < self._records:
                continue
            refused = total - int(run[ACCEPTED] + run[DUPLICATE])
            if refused >= self._ratio * total:
                codes = Counter(
                    {code: int(n) for (_, code), n in zip(VERDICTS, run, strict=True) if code}
                )
                code, n = codes.most_common(1)[0]
                where = "all partitions" if p == ALL else f"partition {p}"
                raise RejectBudgetExceeded(
                    f"{where}: {refused:,} of the last {total:,} records were refused, {n:,} of"
                    f" them with {code}; the last of them are not committed. Fix the cause, or set"
                    " SHOPSTREAM_REJECT_BUDGET_RATIO above 1 to go on"
                )
            del self._runs[p]
        return counts  # of ALL, which is the last

    def used(self) -> dict[int, float]:
        """Partition, or ALL -> the share of its budget that the current run has used; the budget is
        used up at 1.
        """
        return {
            p: (
                float(run.sum() - run[ACCEPTED] - run[DUPLICATE])
                / (self._ratio * max(self._records, int(run.sum())))
            )
            for p, run in list(self._runs.items())
        }
