"""How many events of each minute are counted: what gold holds, in a few rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MINUTE = 60_000


class MinuteCounts:
    """Count events by partition and minute of their event time.

    State: the open minutes, rebuilt from the log as windows are.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}
        self._changed: set[tuple[int, int]] = set()

    def add(self, partition: np.ndarray, times: np.ndarray, is_new: np.ndarray) -> None:
        """Count events; those that are not new change no row.

        Shape: one entry per event.
        """
        minutes = times // MINUTE * MINUTE
        for p in np.unique(partition).tolist():
            own = partition == p
            starts, inverse, counts = np.unique(
                minutes[own], return_inverse=True, return_counts=True
            )
            news = np.bincount(inverse[is_new[own]], minlength=len(starts))
            for start, count, new in zip(
                starts.tolist(), counts.tolist(), news.tolist(), strict=True
            ):
                key = (p, start)
                self._open[key] = self._open.get(key, 0) + count
                if new:
                    self._changed.add(key)

    def take(self) -> Iterator[tuple[int, int, int]]:
        """Give partition, minute (ms) and events of what changed since the last call."""
        changed, self._changed = self._changed, set()
        return ((*key, self._open[key]) for key in sorted(changed))

    def forget(self, closed: dict[int, int]) -> None:
        """Free the minutes that start at or before `closed[partition]` (ms)."""
        self._open = {
            (p, start): count
            for (p, start), count in self._open.items()
            if start > closed.get(p, start - 1)
        }
