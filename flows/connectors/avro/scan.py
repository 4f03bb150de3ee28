"""Find the records of a batch that cannot be read, all at once: when the fast decoder fails it does
not say where.

Every step of the walk is taken by all records together, so a batch costs about a microsecond a
record; asking a decoder record by record costs a hundred. A suspect is not judged here: both
decoders are asked for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

# A record with more items is walked alone: here it would make all others wait.
MOST_ITEMS = 200


def malformed(values: pa.Array, skip: int, schema: dict[str, Any]) -> np.ndarray:
    """Which records (after `skip` bytes of framing) do not end where the schema says. Shape: one
    bool a record.
    """
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(
        np.int64
    )
    walk = Scanner(np.frombuffer(data, np.uint8), ends[:-1] + skip, ends[1:])
    walk.over(schema, np.arange(len(values)))
    return walk.bad | (walk.at != walk.end)


class Scanner:
    """Positions of all records, moved field by field. State: `at` and `end` a record; `bad` ones
    stand still.
    """

    def __init__(self, data: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        self._data = data
        self.at, self.end = start.copy(), end
        self.bad = start > end
        self._value = np.zeros(len(start), np.uint64)

    def over(self, kind: Any, rows: np.ndarray) -> None:
        """Step over one value of each of the rows."""
        rows = rows[~self.bad[rows]]
        if not len(rows):
            return
        if isinstance(kind, list):
            branch = self._within(rows, len(kind))
            for i, option in enumerate(kind):
                self.over(option, branch[self._value[branch] == i])
        elif isinstance(kind, dict):
            self._over_complex(kind, rows)
        elif kind in ("int", "long"):
            self._longs(rows)
        elif kind in ("string", "bytes"):
            rows, lengths = self._signed(rows)
            room = self.end[rows] - self.at[rows]
            fits = (lengths >= 0) & (lengths <= room)
            self._fail(rows[~fits])
            self.at[rows[fits]] += lengths[fits]
        elif kind != "null":
            self._fail(rows)  # no contract of ours has another kind: let the decoders say

    def _over_complex(self, kind: dict[str, Any], rows: np.ndarray) -> None:
        if kind["type"] == "record":
            for field in kind["fields"]:
                self.over(field["type"], rows)
        elif kind["type"] == "enum":
            self._within(rows, len(kind["symbols"]))
        elif kind["type"] == "array":
            self._over_array(kind["items"], rows)
        else:
            self.over(kind["type"], rows)

    def _over_array(self, item: Any, rows: np.ndarray) -> None:
        while len(rows):
            rows, counts = self._signed(rows)
            self._fail(
                rows[(counts < 0) | (counts > MOST_ITEMS)]
            )  # a block with its size is valid, but nobody's habit
            more = (counts > 0) & (counts <= MOST_ITEMS)
            rows, counts = rows[more], counts[more]
            for taken in range(int(counts.max(initial=0))):
                self.over(item, rows[counts > taken])
            rows = rows[~self.bad[rows]]

    def _within(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Read an index; gives the rows whose index is below the count, which then stands in
        `_value`.
        """
        rows, index = self._signed(rows)
        inside = (index >= 0) & (index < count)
        self._fail(rows[~inside])
        rows = rows[inside]
        self._value[rows] = index[inside].astype(np.uint64)
        return rows

    def _signed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read a long; gives the rows that had one, and its value."""
        rows = self._longs(rows)
        raw = self._value[rows]
        return rows, (raw >> np.uint64(1)).astype(np.int64) ^ -(raw & np.uint64(1)).astype(np.int64)

    def _longs(self, rows: np.ndarray) -> np.ndarray:
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
        return rows[~self.bad[rows]]

    def _fail(self, rows: np.ndarray) -> None:
        self.bad[rows] = True
