"""Counter-based randomness: every value is a hash of seed, stream name and counter.

No value depends on what was drawn before (test_a_new_stream_moves_no_other).

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014): the
splitmix64 finaliser.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_HEX = np.array([f"{n:02x}".encode() for n in range(256)], dtype="S2").view(np.uint16)


def stream(seed: int, name: str) -> np.uint64:
    """Give a stream its own constant.

    The name is part of the seed: another name gives other bytes.
    """
    return np.uint64(
        int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")
    )


def draw(of: np.uint64 | np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Hash counters to 64 random bits each.

    Shape: uint64 in, uint64 out; streams and counters broadcast.
    """
    x = counter * _GOLDEN + of
    x ^= x >> _S30
    x *= _M1
    x ^= x >> _S27
    x *= _M2
    x ^= x >> _S31
    return x


def draw_one(of: np.uint64, counter: int) -> int:
    """Hash one counter, where there is no array of them: once per injected fault."""
    return int(draw(of, np.array([counter], dtype=np.uint64))[0])


def bits16(drawn: np.ndarray, quarter: int) -> np.ndarray:
    """Take one of the four 16-bit quarters of a draw."""
    return (drawn >> np.uint64(16 * quarter)).astype(np.uint16)


def threshold(share: float) -> int:
    """Give the value that a share of all draws stays below."""
    return min(int(share * 2.0**64), 2**64 - 1)


def choice_table(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Lay weights out over 65,536 entries, so that a weighted choice is one look-up.

    Shape: an index of `weights` per 16-bit draw.
    Units: a weight below 1/65,536 of the sum may get no entry.
    """
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    entries = (np.arange(65_536) + 0.5) / 65_536 * edges[-1]
    table: np.ndarray = np.searchsorted(edges, entries, side="right").astype(np.int32)
    return table


def hex_text(prefix: bytes, drawn: np.ndarray) -> pa.StringArray:
    """Write draws as prefix + 16 hexadecimal digits."""
    digits = _HEX[drawn.view(np.uint8).reshape(-1, 8)].view(np.uint8)
    text = np.empty((len(drawn), len(prefix) + 16), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    text[:, len(prefix) :] = digits
    return fixed_text(text)


def uuid_text(high: np.ndarray, low: np.ndarray) -> pa.StringArray:
    """Write 128 bits as text in the shape of a version 4 UUID."""
    raw = np.empty((len(high), 16), dtype=np.uint8)
    raw[:, :8] = high.view(np.uint8).reshape(-1, 8)
    raw[:, 8:] = low.view(np.uint8).reshape(-1, 8)
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    digits = _HEX[raw].view(np.uint8)
    text = np.full((len(high), 36), ord("-"), dtype=np.uint8)
    for start, digit, count in ((0, 0, 8), (9, 8, 4), (14, 12, 4), (19, 16, 4), (24, 20, 12)):
        text[:, start : start + count] = digits[:, digit : digit + count]
    return fixed_text(text)


def fixed_text(text: np.ndarray) -> pa.StringArray:
    """Wrap a matrix of ASCII bytes as an Arrow string column, without a copy per value.

    Shape: one row per value.
    """
    rows, width = text.shape
    offsets = (
        np.arange(0, (rows + 1) * width, width, dtype=np.int32)
        if rows
        else np.zeros(1, dtype=np.int32)
    )
    return pa.StringArray.from_buffers(
        rows, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))
    )
