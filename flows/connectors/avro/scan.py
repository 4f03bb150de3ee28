"""Find the records of a batch that cannot be read, all of them at once.

When the fast decoder fails it does not say where. Asking a decoder record by record costs 100 µs
per record; here every step over a field is taken by all records together, which costs about 1 µs
per record. What is found is not judged here: both decoders are asked for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

# A record with more items is left to the decoders: here it would make all others wait for it.
MOST_ITEMS = 200


def malformed(values: pa.Array, skip: int, schema: dict[str, Any]) -> np.ndarray:
    """Mark the records that do not end where the schema says.

    Shape: one bool per record; `skip` bytes of framing stand before each body.
    """
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(
        np.int64
    )
    scanner = Scanner(np.frombuffer(data, np.uint8), ends[:-1] + skip, ends[1:])
    scanner.step_over(schema, np.arange(len(values)))
    is_malformed: np.ndarray = scanner.bad | (scanner.at != scanner.end)
    return is_malformed


class Scanner:
    """Positions in all records, moved field by field.

    State: `at` and `end` per record, indices into the bytes of all; `bad` ones stand still.
    """

    # Each method takes the rows (records) that have the value to step over: those that chose
    # another branch of a union, or have fewer items, are not among them. So one call per field
    # moves any number of records, however different they are:
    #
    #   a union of null and string, three records: [00]  [02 04 'h' 'i']  [02 02 'x']
    #   read the branch of all three -> 0, 1, 1; step over null for row 0, over string for 1 and 2

    def __init__(self, data: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        self._data = data
        self.at, self.end = start.copy(), end
        self.bad = start > end
        self._value = np.zeros(len(start), np.uint64)

    def step_over(self, kind: Any, rows: np.ndarray) -> None:
        """Step over one value of each of the rows."""
        rows = rows[~self.bad[rows]]
        if not len(rows):
            return
        if isinstance(kind, list):
            chosen = self._index(rows, len(kind))
            # Copied: stepping over a branch reads values of its own into `_value`.
            branch = self._value[chosen]
            for i, option in enumerate(kind):
                self.step_over(option, chosen[branch == i])
        elif isinstance(kind, dict):
            self._step_over_complex(kind, rows)
        elif kind in ("int", "long"):
            self._unsigned(rows)
        elif kind in ("string", "bytes"):
            rows, lengths = self._signed(rows)
            room = self.end[rows] - self.at[rows]
            fits = (lengths >= 0) & (lengths <= room)
            self._fail(rows[~fits])
            self.at[rows[fits]] += lengths[fits]
        elif kind != "null":
            self._fail(rows)  # no contract of ours has another kind: leave it to the decoders

    def _step_over_complex(self, kind: dict[str, Any], rows: np.ndarray) -> None:
        if kind["type"] == "record":
            for field in kind["fields"]:
                self.step_over(field["type"], rows)
        elif kind["type"] == "enum":
            self._index(rows, len(kind["symbols"]))
        elif kind["type"] == "array":
            self._step_over_array(kind["items"], rows)
        else:
            self.step_over(kind["type"], rows)

    def _step_over_array(self, item: Any, rows: np.ndarray) -> None:
        while len(rows):
            rows, counts = self._signed(rows)
            # A negative count, with the block's size after it, is valid Avro that no writer of ours
            # uses: leave it to the decoders.
            self._fail(rows[(counts < 0) | (counts > MOST_ITEMS)])
            more = (counts > 0) & (counts <= MOST_ITEMS)
            rows, counts = rows[more], counts[more]
            for items_passed in range(int(counts.max(initial=0))):
                self.step_over(item, rows[counts > items_passed])
            rows = rows[~self.bad[rows]]

    def _index(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Read an index below `count` into `_value`, and give the rows that have one."""
        rows, index = self._signed(rows)
        inside = (index >= 0) & (index < count)
        self._fail(rows[~inside])
        rows = rows[inside]
        self._value[rows] = index[inside].astype(np.uint64)
        return rows

    def _signed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read a long; give the rows that have one, and its value."""
        rows = self._unsigned(rows)
        # Avro's zigzag: 0, 1, 2, 3 stand for 0, -1, 1, -2
        raw = self._value[rows]
        return rows, (raw >> np.uint64(1)).astype(np.int64) ^ -(raw & np.uint64(1)).astype(np.int64)

    def _unsigned(self, rows: np.ndarray) -> np.ndarray:
        """Read a varint into `_value`, and give the rows that have one."""
        live = rows
        self._value[rows] = 0
        for shift in range(0, 70, 7):
            ended = self.at[live] >= self.end[live]
            if ended.any():
                self._fail(live[ended])
                live = live[~ended]
            byte = self._data[self.at[live]]
            self.at[live] += 1
            self._value[live] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            live = live[byte >= 0x80]
            if not len(live):
                break
        self._fail(live)  # ten bytes hold any long
        whole: np.ndarray = rows[~self.bad[rows]]
        return whole

    def _fail(self, rows: np.ndarray) -> None:
        self.bad[rows] = True
