"""What a flow must remember to go on after a stop: two offsets per partition, and a note.

::

    offsets    0 ........ rewind ................ resume ......... end of the topic
               needed by  | read again, to        | the next records whose outputs
               nothing    | rebuild the state     | are written
                          | with outputs silent   |

Everything before `resume` is in the outputs. The state at `resume` depends on no record before
`rewind`, apart from a few running maxima (watermark, clock, fence): the note holds them as they
stood at `rewind`. So the log is the saved state, and nothing else is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from flows.domain.batch import Batch, rows_by_partition
from flows.domain.losses import Loss

CommitNote = dict[str, int]
"""Named numbers beside the offsets of a commit: the running maxima, and the settings in force."""

# How far apart the notes of a trail stand, in offsets. A restart reads at most that much, or one
# batch, more than it needs; half a thousand records are read within milliseconds.
NOTE_EVERY = 500

# What a reader of numbered records must know at `resume`, where it cannot read from `rewind` to it:
# with this prefix it stands in the note beside what held at `rewind`.
AT_RESUME = "resume_"
KEPT = ("fence", "last", "source")


def at_resume(note: CommitNote) -> CommitNote:
    """Give what a note says of `resume`; nothing where it holds there as it is."""
    return {k.removeprefix(AT_RESUME): v for k, v in note.items() if k.startswith(AT_RESUME)}


@dataclass(frozen=True)
class Checkpoint:
    """Where one partition stands. `rewind` <= `resume`."""

    resume: int
    rewind: int
    note: CommitNote = field(default_factory=dict)


class Progress:
    """How far each partition is, which records are new, and the notes along the way.

    State: per partition, one note per NOTE_EVERY offsets between the last `rewind` and now.
    """

    def __init__(self) -> None:
        # Per partition. `_resume` stays as the start found it; `_next` begins there and grows;
        # `_seen` begins at `rewind`, and catches up with `_next` when the state is rebuilt.
        self._resume: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._restored: dict[int, Checkpoint] = {}
        # (offset, note before that offset), ascending; the first one is never after the oldest
        # record that the state needs
        self._trails: dict[int, deque[tuple[int, CommitNote]]] = {}

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin the partition at `rewind`; the first new record is the one at `resume`."""
        self._seen[partition], self._restored[partition] = checkpoint.rewind, checkpoint
        self._resume[partition] = self._next[partition] = checkpoint.resume
        self._trails[partition] = deque([(checkpoint.rewind, checkpoint.note)])

    def is_new(self, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Mark the new records; the others are read again only to rebuild the state.

        Shape: one bool per record.
        """
        is_new = np.ones(len(offset), bool)
        for p, rows in rows_by_partition(partition).items():
            is_new[rows] = offset[rows] >= self._resume[p]
        return is_new

    def remember(self, partition: int, offset: int, note: CommitNote) -> None:
        """Keep how things stand before the record at `offset` is seen."""
        trail = self._trails[partition]
        if offset - trail[-1][0] >= NOTE_EVERY:
            trail.append((offset, note))

    def advance(self, partition: int, offset: int) -> None:
        """Say that the record at `offset`, and all before it, were seen."""
        self._seen[partition] = offset + 1
        self._next[partition] = max(self._next[partition], offset + 1)

    @property
    def partitions(self) -> list[int]:
        """The partitions that were begun."""
        return list(self._next)

    def checkpoint(self, partition: int, needed: int | None, note: CommitNote) -> Checkpoint:
        """Give where the partition stands, when `note` holds now.

        `needed` is the offset of the oldest record that the state depends on; it never falls.
        """
        resume = self._next[partition]
        if self._seen[partition] < resume:
            # The state is rebuilt only in part, so `needed` speaks of that part: a commit made
            # from it would skip what is not read again yet
            # (test_a_commit_while_the_state_is_still_being_rebuilt_forgets_nothing).
            return self._restored[partition]
        if needed is None or needed >= resume:
            return Checkpoint(resume, resume, note)
        # The state can be rebuilt only from an offset with a note, so from the last one that is
        # not after `needed`. With a trail of 0, 700, 1300 and 900 needed: from 700.
        trail = self._trails[partition]
        while len(trail) > 1 and trail[1][0] <= needed:
            trail.popleft()  # for good: `needed` never falls
        rewind, before = trail[0]
        now = {f"{AT_RESUME}{name}": note[name] for name in KEPT if name in note}
        return Checkpoint(resume, rewind, before | now)


class Positions:
    """The state of a flow whose rows depend on one record each: how far each partition is."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}
        self._losses: list[Loss] = []

    def restore(self, partition: int, checkpoint: Checkpoint) -> None:
        """Begin a partition where a stop left it."""
        self._next[partition] = checkpoint.resume

    def lose(self, loss: Loss) -> None:
        """Take note of records that were gone before they were read."""
        self._next[loss.partition] = loss.end
        self._losses.append(loss)

    def losses(self) -> list[Loss]:
        """Give the losses since the last call."""
        losses, self._losses = self._losses, []
        return losses

    def passed(self, batch: Batch) -> Batch:
        """Note how far a batch goes, and hand it on."""
        self._next |= {p: offset + 1 for p, offset in batch.last_offsets.items()}
        return batch

    def depends_on(self) -> CommitNote:
        """Name no setting: these rows depend on none."""
        return {}

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Map each partition to where it stands once all that passed is in the outputs."""
        return {p: Checkpoint(offset, offset) for p, offset in self._next.items()}
