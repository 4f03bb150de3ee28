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


def warm() -> None:
    """Call each kernel once, with the types that it is called with."""
    one, keys = LONGS[:1], np.zeros((1, 2), np.uint64)
    # columns of Polars and Arrow are read-only
    fixed = [array.copy() for array in (LONGS, INTS, BYTES, BOOLS)]
    for array in fixed:
        array.flags.writeable = False
    longs, ints, data, bools = fixed
    for offsets in (longs, ints):
        hash_texts(offsets, data, keys)
    for starts in (longs, one):
        for partitions in (ints, INTS):
            begin_keys(starts[:1], partitions[:1], keys)
    extend_keys(keys, keys)
    table = SlotTable(8)
    table.fresh(table.add(keys), 0)
    table.resize(16).get(keys)
    for is_new in (bools, BOOLS):
        add_to_rows((one, is_new, MATRIX), one, MATRIX.copy(), BOOLS.copy())
    measure_texts(longs, one, one.copy())
    pack_texts(longs, data, one, BYTES.copy(), one.copy())
    move_rows(BYTES, LONGS, one, BYTES.copy())
    copy_rows(one, 0, (one, INTS[:1], BYTES, LONGS), MATRIX, np.zeros(64, np.uint8))
    columns = np.zeros((1, 2), np.uint64), one.copy(), BOOLS.copy()
    found = one.copy(), one.copy(), BOOLS.copy()
    plan = np.zeros((0, 6), np.int64), 0, False
    read_events(data, (one, one.copy()), plan, columns, found)


if __name__ == "__main__":
    warm()
