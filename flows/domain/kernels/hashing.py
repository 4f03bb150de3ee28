"""Hashes of 128 bits over texts: two lanes of 64, so that a key can stand for its text.

The same text has the same hash in every process, so rows that are ordered by it are ordered alike
by all writers.

    a text:   [8 bytes] [8 bytes] … [rest, padded with zeros]      the length is in the start value
    per lane: h = fold((h ^ word) * odd constant)                  one to one in h, and in the word
"""

from __future__ import annotations

import numpy as np

from flows.domain.kernels.compiled import compiled

LANE_A, LANE_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
FOLD_A, FOLD_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
START_A, START_B = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)
BYTE, SHIFT_A, SHIFT_B = np.uint64(8), np.uint64(32), np.uint64(29)


@compiled
def fold_a(h: np.uint64, word: np.uint64) -> np.uint64:
    """Take a word into the first lane."""
    h = (h ^ word) * LANE_A
    h = (h ^ (h >> SHIFT_A)) * FOLD_A
    return h ^ (h >> SHIFT_B)


@compiled
def fold_b(h: np.uint64, word: np.uint64) -> np.uint64:
    """Take a word into the second lane."""
    h = (h ^ word) * LANE_B
    h = (h ^ (h >> SHIFT_B)) * FOLD_B
    return h ^ (h >> SHIFT_A)


@compiled
def hash_texts(offsets: np.ndarray, data: np.ndarray, hashes: np.ndarray) -> None:
    """Hash each text.

    Shape: text i is `data[offsets[i]:offsets[i + 1]]` (uint8); `hashes` (n, 2) uint64 is filled in.
    """
    for i in range(len(hashes)):
        at, end = offsets[i], offsets[i + 1]
        length = np.uint64(end - at)
        a, b = START_A ^ length, START_B ^ length
        while at < end:
            word = np.uint64(0)
            if at + 8 <= end:
                for j in range(8):
                    word |= np.uint64(data[at + j]) << (np.uint64(j) * BYTE)
            else:
                for j in range(end - at):
                    word |= np.uint64(data[at + j]) << (np.uint64(j) * BYTE)
            a, b = fold_a(a, word), fold_b(b, word)
            at += 8
        hashes[i, 0], hashes[i, 1] = a, b


@compiled
def begin_keys(starts: np.ndarray, partitions: np.ndarray, keys: np.ndarray) -> None:
    """Begin keys with a window's start and a partition.

    Shape: one entry per row in all; `keys` (n, 2) uint64 is filled in.
    """
    for i in range(len(keys)):
        start, partition = np.uint64(starts[i]), np.uint64(partitions[i])
        keys[i, 0] = fold_a(fold_a(START_A, start), partition)
        keys[i, 1] = fold_b(fold_b(START_B, start), partition)


@compiled
def extend_keys(keys: np.ndarray, hashes: np.ndarray) -> None:
    """Take the hash of one more column into each key."""
    for i in range(len(keys)):
        keys[i, 0] = fold_a(keys[i, 0], hashes[i, 0])
        keys[i, 1] = fold_b(keys[i, 1], hashes[i, 1])
