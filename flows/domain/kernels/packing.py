"""Texts of rows, laid end to end, and the rows of PostgreSQL's binary COPY that are made of them.

    packed texts of a row:   [length, 4 bytes, big-endian] [UTF-8] [length] [UTF-8] …
    a row of COPY:           [columns, 2 bytes] then per column [length, 4 bytes] [value];
                             a null is the length -1

A text is packed as COPY wants it, so a row is made by copying.
Source: https://www.postgresql.org/docs/17/sql-copy.html (File Formats, Binary Format)
"""

from __future__ import annotations

import numpy as np

from flows.domain.kernels.compiled import compiled

NULL, TARGET, START, PARTITION, TEXTS, NUMBERS = -1, 0, 1, 2, 3, 1_000
"""What a column of the staging table gets: TEXTS + i is the row's i-th text, and so NUMBERS + i."""
# from 1970 to 2000, where PostgreSQL's times begin
EPOCH_MS = 946_684_800_000


@compiled
def measure_texts(offsets: np.ndarray, rows: np.ndarray, sizes: np.ndarray) -> None:
    """Add the packed size of one more text to each row's.

    Shape: `rows` leads into the texts, one entry per packed row, as in `sizes`.
    """
    for i in range(len(rows)):
        sizes[i] += 4 + offsets[rows[i] + 1] - offsets[rows[i]]


@compiled
def pack_texts(
    offsets: np.ndarray, data: np.ndarray, rows: np.ndarray, packed: np.ndarray, at: np.ndarray
) -> None:
    """Append one more text to each row, at `at`, which moves behind it."""
    for i in range(len(rows)):
        begin, end = offsets[rows[i]], offsets[rows[i] + 1]
        place = put(packed, at[i], end - begin, 4)
        for j in range(begin, end):
            packed[place] = data[j]
            place += 1
        at[i] = place


@compiled
def put(out: np.ndarray, at: int, value: int, size: int) -> int:
    """Write a big-endian integer; gives the place behind it."""
    for i in range(size):
        out[at + i] = (value >> (8 * (size - 1 - i))) & 0xFF
    return at + size


@compiled
def move_rows(packed: np.ndarray, ends: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy the packed texts of some rows, end to end.

    Shape: those of row i end before `ends[i + 1]` and begin at `ends[i]`.
    """
    place = 0
    for row in rows:
        for j in range(ends[row], ends[row + 1]):
            out[place] = packed[j]
            place += 1


@compiled
def copy_rows(
    plan: np.ndarray,
    target: int,
    keys: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    numbers: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write rows as COPY wants them; gives how many bytes they take.

    Shape: `plan` has one entry per column of the staging table; `keys` are the rows' starts (ms),
    partitions, packed texts and their ends; `numbers` is (lines, rows).
    """
    starts, partitions, packed, ends = keys
    at = 0
    for row in range(len(starts)):
        at = put(out, at, len(plan), 2)
        for step in plan:
            if step >= NUMBERS:
                at = put(out, at, 8, 4)
                at = put(out, at, numbers[step - NUMBERS, row], 8)
            elif step >= TEXTS:
                begin = ends[row]
                for _ in range(step - TEXTS):
                    begin += 4 + text_length(packed, begin)
                for j in range(begin, begin + 4 + text_length(packed, begin)):
                    out[at] = packed[j]
                    at += 1
            elif step == START:
                at = put(out, at, 8, 4)
                at = put(out, at, (starts[row] - EPOCH_MS) * 1_000, 8)
            elif step == PARTITION:
                at = put(out, at, 4, 4)
                at = put(out, at, partitions[row], 4)
            elif step == TARGET:
                at = put(out, at, 2, 4)
                at = put(out, at, target, 2)
            else:
                at = put(out, at, NULL, 4)
    return at


@compiled
def text_length(packed: np.ndarray, at: int) -> int:
    """Read the length of a packed text."""
    length = 0
    for i in range(4):
        length = length << 8 | int(packed[at + i])
    return length
