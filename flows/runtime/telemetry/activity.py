"""What the flow's own thread is at, for those who ask from another one: single values, replaced
whole.
"""

from __future__ import annotations

import time

from flows.domain.batch import Batch


class Activity:
    """State: the batch that goes through the steps, what is done with it, and when the loop last
    came round.
    """

    def __init__(self) -> None:
        self.where = "the start"
        self.batch: Batch | None = None
        self.turned = time.monotonic()

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Partition -> first and last offset of the batch in hand."""
        batch = self.batch
        if batch is None:
            return {}
        lasts = batch.last_offsets
        return {p: (first, lasts[p]) for p, first in batch.first_offsets.items()}
