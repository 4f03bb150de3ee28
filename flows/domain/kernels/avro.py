"""Read Avro records straight into columns, in one pass that also proves them canonical.

    data     [frame][body of record 0][frame][body of record 1] …
    plan     one line per field, the record's first and then those of the items in its array:
             kind, nullable, where its column and that of its nulls begin, and between what its
             value must be: the number, or the length of a text or an array
    texts    (values, 2) uint64: views as Arrow and Polars have them, column behind column:
             [length, 4] [12 bytes of text]                        up to 12 bytes
             [length, 4] [first 4 bytes] [buffer, 4] [offset, 4]   longer: where it stands in `data`
    numbers  (values) int64, likewise: ints, longs, and the index of an enum
    valid    (values) bool, likewise: false is null

A column of the record has its values by record; one of the items by item, over all records.

A record is read only where its bytes are the one encoding that our writers make: varints and block
counts no longer than needed, indices in range, UTF-8, nothing behind the last field. Any other is
left to the decoders of Python, whatever it is.
Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.domain.kernels.compiled import compiled

STRING, ARRAY, LONG, INT, ENUM = range(5)
NUMBERS = LONG
BAD = -1
INLINE = 12

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Texts, numbers and what is valid."""


@compiled
def read_count(data: np.ndarray, at: int, end: int) -> tuple[int, Any]:
    """Read a zig-zag varint; gives the place behind it, or BAD, and the value."""
    if at < end and data[at] < 0x80:
        raw = np.uint64(data[at])
        return at + 1, np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))
    raw, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = data[at]
        at += 1
        raw |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            # no longer than needed, and no more than 64 bits
            if (byte == 0 and shift > 0) or (shift == 63 and byte > 1):
                return BAD, 0
            return at, np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))
        shift += np.uint64(7)
        if shift > 63:
            return BAD, 0
    return BAD, 0


@compiled
def is_utf8(data: np.ndarray, at: int, end: int) -> bool:
    """Say whether bytes are UTF-8: no surrogates, nothing longer than needed or past U+10FFFF."""
    while at < end:
        lead = data[at]
        if lead < 0x80:
            at += 1
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            low = 0xA0 if lead == 0xE0 else 0x80
            high = 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            low = 0x90 if lead == 0xF0 else 0x80
            high = 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if at + more >= end or not low <= data[at + 1] <= high:
            return False
        for i in range(2, more + 1):
            if not 0x80 <= data[at + i] <= 0xBF:
                return False
        at += more + 1
    return True


# One function, for the calls of smaller ones took three quarters of the time.
@compiled
def read_event(  # noqa: C901, PLR0913
    data: np.ndarray,
    at: int,
    end: int,
    plan: np.ndarray,
    fields: int,
    texts: np.ndarray,
    numbers: np.ndarray,
    valid: np.ndarray,
    event: int,
    first_item: int,
) -> tuple[int, int, bool]:
    """Read an event; gives the place behind it, or BAD, how many items it has, and NULs.

    Shape: the first `fields` lines of the plan are the event's, the others those of an item. The
    event's values go to the row `event`, those of its items to `first_item` and the rows behind.
    """
    items, to_read, has_nul = 0, 0, False
    line, row, back = 0, event, 0
    while to_read or line < fields:
        if line == len(plan):  # the end of an item
            line, row, to_read = fields, row + 1, to_read - 1
            if not to_read:
                if at >= end or data[at] != 0:
                    return BAD, 0, False  # another block
                line, row, at = back, event, at + 1
            continue
        is_there = True
        value: Any = 0
        if plan[line, 1]:  # the branch of a union
            if at >= end or (data[at] != 0 and data[at] != 2):
                return BAD, 0, False
            is_there = data[at] == 2
            at += 1
        valid[plan[line, 3] + row] = is_there
        if is_there:  # a number, or the length of what follows: a zig-zag varint
            if at >= end:
                return BAD, 0, False
            byte = data[at]
            at += 1
            raw, shift = np.uint64(byte & 0x7F), 7
            while byte >= 0x80:
                if at >= end or shift > 63:
                    return BAD, 0, False
                byte = data[at]
                at += 1
                # no longer than needed, and no more than 64 bits
                if byte == 0 or (shift == 63 and byte > 1):
                    return BAD, 0, False
                raw |= np.uint64(byte & 0x7F) << np.uint64(shift)
                shift += 7
            value = np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))
        # a null is 0, which is in every range
        if value < plan[line, 4] or value > plan[line, 5]:
            return BAD, 0, False
        kind = plan[line, 0]
        if kind >= NUMBERS:
            numbers[plan[line, 2] + row] = value
        elif value > end - at:
            return BAD, 0, False
        elif kind == STRING:
            head, rest, every = np.uint64(value), np.uint64(0), np.uint8(0)
            for i in range(value):
                byte = data[at + i]
                every |= byte
                has_nul |= byte == 0
                if i < 4:
                    head |= np.uint64(byte) << np.uint64(32 + 8 * i)
                elif value <= INLINE:
                    rest |= np.uint64(byte) << np.uint64(8 * (i - 4))
            if every >= 0x80 and not is_utf8(data, at, at + value):
                return BAD, 0, False
            if value > INLINE:
                rest = np.uint64(at) << np.uint64(32)
            texts[plan[line, 2] + row, 0] = head
            texts[plan[line, 2] + row, 1] = rest
            at += value
        elif value:
            items = to_read = value
            line, row, back = fields, first_item, line + 1
            continue
        line += 1
    return at, items, has_nul


@compiled
def read_events(
    data: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    plan: tuple[np.ndarray, int, bool],
    columns: Columns,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, int]:
    """Read the events of records; gives how many there are, and how many items they have.

    Shape: `bounds` are where the body of each record begins and ends; `plan` comes with the number
    of an event's fields, and whether a record is an array of events in one block. `found` is filled
    in: the events of each record, BAD where it is left to others; the items of each event, and
    whether a text of it holds a NUL.
    """
    lines, fields, is_batch = plan
    texts, numbers, valid = columns
    counts, items, has_nul = found
    event = item = 0
    for i in range(len(bounds[0])):
        at, end = bounds[0][i], bounds[1][i]
        count = 1
        if is_batch:
            at, count = read_count(data, at, end)
        counts[i] = BAD
        if at == BAD or count < 0 or count > end - at:
            continue
        first_item = item
        for row in range(event, event + count):
            at, items[row], has_nul[row] = read_event(
                data, at, end, lines, fields, texts, numbers, valid, row, item
            )
            item += items[row]
            if at == BAD:
                break
        if is_batch and count and at != BAD:
            at = at + 1 if at < end and data[at] == 0 else BAD
        if at == end:
            counts[i] = count
            event += count
        else:
            item = first_item
    return event, item
