"""What a flow must remember to go on after a stop: two offsets a partition and a note, all of it in
the log's own terms.

Everything before `resume` is in the outputs. `rewind` is where reading starts again, so that the
state can be rebuilt with outputs silent until `resume`; the note holds the running maxima as they
stood at `rewind`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from flows.domain.batch import Batch, rows_by_partition

CommitNote = dict[str, int]
# how far apart notes stand, in records: a restart reads at most that much more than it needs
NOTE_EVERY = 500


@dataclass(frozen=True)
class Checkpoint:
    """Where one partition stands. `rewind` <= `resume`."""

    resume: int
    rewind: int
    note: CommitNote = field(default_factory=dict)


class Progress:
    """How far each partition is, what of a batch is news, and how things stood before each batch.

    State: a note a batch since the last `rewind`, a partition.
    """

    def __init__(self) -> None:
        self._resume: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._restored: dict[int, Checkpoint] = {}
        self._trails: dict[int, deque[tuple[int, CommitNote]]] = {}

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin the partition: the next record is the one at `rewind`, the first that is news the
        one at `resume`.
        """
        self._seen[partition], self._restored[partition] = checkpoint.rewind, checkpoint
        self._resume[partition] = self._next[partition] = checkpoint.resume
        self._trails[partition] = deque([(checkpoint.rewind, checkpoint.note)])

    def is_new(self, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Which records are news; the others are read again only to rebuild the state."""
        news = np.ones(len(offset), bool)
        for p, rows in rows_by_partition(partition).items():
            news[rows] = offset[rows] >= self._resume[p]
        return news

    def remember(self, partition: int, offset: int, note: CommitNote) -> None:
        """CommitNote how things stand before the record at `offset` is seen."""
        trail = self._trails[partition]
        if offset - trail[-1][0] >= NOTE_EVERY:
            trail.append((offset, note))

    def advance(self, partition: int, offset: int) -> None:
        """Say that the record at `offset` and all before it were seen."""
        self._seen[partition] = offset + 1
        self._next[partition] = max(self._next[partition], offset + 1)

    @property
    def partitions(self) -> list[int]:
        return list(self._next)

    def checkpoint(self, partition: int, needed: int | None, note: CommitNote) -> Checkpoint:
        """Where the partition stands when `needed` is the oldest offset that its state depends on,
        and `note` holds now.
        """
        resume = self._next[partition]
        if self._seen[partition] < resume:
            return self._restored[
                partition
            ]  # the state is not rebuilt yet: what it needs cannot be told from it
        if needed is None or needed >= resume:
            return Checkpoint(resume, resume, note)
        trail = self._trails[partition]
        while len(trail) > 1 and trail[1][0] <= needed:
            trail.popleft()
        return Checkpoint(resume, *trail[0])


class Positions:
    """The state of a flow that needs none: how far each partition is."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._next[partition] = checkpoint.resume

    def passed(self, batch: Batch) -> Batch:
        """CommitNote a batch, and hand it on."""
        self._next |= {p: offset + 1 for p, offset in batch.last_offsets.items()}
        return batch

    def depends_on(self) -> CommitNote:
        """It depends on no setting."""
        return {}

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Where each partition stands once all that passed is in the outputs."""
        return {p: Checkpoint(offset, offset) for p, offset in self._next.items()}
