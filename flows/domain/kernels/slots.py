"""A hash table of 128-bit keys that numbers them in the order in which they come.

    index   [0 3 0 1 0 2 …]      open addressing; an entry is the slot + 1, and 0 is free
    keys    [k0 k1 k2 …]         by slot

Twice as many entries as slots: so a search looks at one or two of them.
"""

from __future__ import annotations

import numpy as np

from flows.domain.kernels.compiled import compiled

ENTRIES_PER_SLOT = 2
MIN_CAPACITY = 1 << 12


@compiled
def add_keys(
    index: np.ndarray, known: np.ndarray, used: int, keys: np.ndarray, slots: np.ndarray
) -> int:
    """Find the slot of each key, and give a new one to each that has none.

    Shape: `keys` (n, 2) uint64; `slots` (n) int64 is filled in; gives how many slots are used then.
    """
    mask = np.uint64(len(index) - 1)
    for i in range(len(keys)):
        a, b = keys[i, 0], keys[i, 1]
        at = a & mask
        while True:
            entry = index[at]
            if entry == 0:
                known[used, 0], known[used, 1] = a, b
                slots[i] = used
                used += 1
                index[at] = used
                break
            if known[entry - 1, 0] == a and known[entry - 1, 1] == b:
                slots[i] = entry - 1
                break
            at = (at + np.uint64(1)) & mask
    return used


@compiled
def find_keys(index: np.ndarray, known: np.ndarray, keys: np.ndarray, slots: np.ndarray) -> None:
    """Find the slot of each key, -1 for one that has none."""
    mask = np.uint64(len(index) - 1)
    for i in range(len(keys)):
        at = keys[i, 0] & mask
        slots[i] = -1
        while index[at] != 0:
            slot = index[at] - 1
            if known[slot, 0] == keys[i, 0] and known[slot, 1] == keys[i, 1]:
                slots[i] = slot
                break
            at = (at + np.uint64(1)) & mask


@compiled
def fill_index(index: np.ndarray, known: np.ndarray, used: int) -> None:
    """Enter the first `used` keys, which all differ, into an empty index."""
    mask = np.uint64(len(index) - 1)
    for slot in range(used):
        at = known[slot, 0] & mask
        while index[at] != 0:
            at = (at + np.uint64(1)) & mask
        index[at] = slot + 1


@compiled
def first_rows(slots: np.ndarray, known: int, rows: np.ndarray) -> int:
    """Find the first row of each new slot, one not below `known`; gives how many there are.

    Shape: `rows` is filled in from its beginning, in the order of the slots.
    """
    found = 0
    for i in range(len(slots)):
        # slots are given in the order of the rows: the next new one is always the lowest
        if slots[i] == known + found:
            rows[found] = i
            found += 1
    return found


class SlotTable:
    """Keys by slot.

    Shape: `keys` (n, 2) uint64. State: 24 to 48 bytes per key.
    """

    def __init__(self, capacity: int = MIN_CAPACITY) -> None:
        assert capacity & (capacity - 1) == 0, "a power of two"
        self._known = np.empty((capacity, 2), np.uint64)
        self._index = np.zeros(capacity * ENTRIES_PER_SLOT, np.int32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def max(self) -> int:
        """How many keys there is room for."""
        return len(self._known)

    @property
    def keys(self) -> np.ndarray:
        """Give the keys by slot."""
        return self._known[: self._used]

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Give the slot of each key; new ones get the next. There must be room for all."""
        assert self._used + len(keys) <= self.max
        slots = np.empty(len(keys), np.int64)
        self._used = add_keys(self._index, self._known, self._used, keys, slots)
        return slots

    def get(self, keys: np.ndarray) -> np.ndarray:
        """Give the slot of each key, -1 for an unknown one."""
        slots = np.empty(len(keys), np.int64)
        find_keys(self._index, self._known, keys, slots)
        return slots

    def resize(self, capacity: int) -> SlotTable:
        """Give a table of another capacity with the same keys in the same slots."""
        other = SlotTable(1 << (capacity - 1).bit_length())
        other._known[: self._used] = self.keys
        other._used = self._used
        fill_index(other._index, other._known, self._used)
        return other

    def fresh(self, slots: np.ndarray, known: int) -> np.ndarray:
        """Give the first row of each slot that an `add` made, when there were `known` before."""
        rows = np.empty(self._used - known, np.int64)
        first_rows(slots, known, rows)
        return rows
