"""Add the numbers of events to the rows that they belong to."""

from __future__ import annotations

import numpy as np

from flows.domain.kernels.compiled import compiled


@compiled
def add_to_rows(
    events: tuple[np.ndarray, np.ndarray, np.ndarray],
    lines: np.ndarray,
    numbers: np.ndarray,
    changed: np.ndarray,
) -> None:
    """Count each event in line 0 of its row's numbers, and add its values to other lines.

    Shape: of the `events`, their slots and whether each is new, and values (lines, events) int64;
    line i of them is added to line `lines[i]` of `numbers` (lines, slots). A new event changes its
    row.
    """
    slots, is_new, values = events
    for i in range(len(slots)):
        slot = slots[i]
        numbers[0, slot] += 1
        for j in range(len(lines)):
            numbers[lines[j], slot] += values[j, i]
        if is_new[i]:
            changed[slot] = True
