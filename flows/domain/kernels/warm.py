"""Compile the kernels before the first batch, or load what was compiled before.

`python -m flows.domain.kernels.warm` does so for an image or an installation.
"""

from __future__ import annotations

import numpy as np

from flows.domain.kernels.avro import read_events
from flows.domain.kernels.hashing import begin_keys, extend_keys, hash_texts
from flows.domain.kernels.packing import copy_rows, measure_texts, move_rows, pack_texts
from flows.domain.kernels.slots import SlotTable
from flows.domain.kernels.sums import add_to_rows

LONGS, INTS, BYTES = np.zeros(2, np.int64), np.zeros(2, np.int32), np.zeros(8, np.uint8)
BOOLS, MATRIX = np.zeros(1, bool), np.zeros((1, 1), np.int64)


def warm_reading() -> None:
    """Call each kernel that reads events and knows ids, with the types that it is called with."""
    one, keys = LONGS[:1], np.zeros((1, 2), np.uint64)
    for offsets in (_fixed(LONGS), _fixed(INTS)):
        hash_texts(offsets, _fixed(BYTES), keys)
    table = SlotTable(8)
    table.fresh(table.add(keys), 0)
    table.resize(16).get(keys)
    columns = np.zeros((1, 2), np.uint64), one.copy(), BOOLS.copy()
    found = one.copy(), one.copy(), BOOLS.copy()
    plan = np.zeros((0, 6), np.int64), 0, False
    read_events(_fixed(BYTES), (one, one.copy()), plan, columns, found)


def warm() -> None:
    """Call each kernel once, those that count and write rows, too."""
    warm_reading()
    one, keys = LONGS[:1], np.zeros((1, 2), np.uint64)
    longs = _fixed(LONGS)
    for starts in (longs, one):
        for partitions in (_fixed(INTS), INTS):
            begin_keys(starts[:1], partitions[:1], keys)
    extend_keys(keys, keys)
    for is_new in (_fixed(BOOLS), BOOLS):
        add_to_rows((one, is_new, MATRIX), one, MATRIX.copy(), BOOLS.copy())
    measure_texts(longs, one, one.copy())
    pack_texts(longs, _fixed(BYTES), one, BYTES.copy(), one.copy())
    move_rows(BYTES, LONGS, one, BYTES.copy())
    copy_rows(one, 0, (one, INTS[:1], BYTES, LONGS), MATRIX, np.zeros(64, np.uint8))


def _fixed(array: np.ndarray) -> np.ndarray:
    """Give an array that nobody may write to, as columns of Polars and Arrow are."""
    array = array.copy()
    array.flags.writeable = False
    return array


if __name__ == "__main__":
    warm()
