"""Keys of 128 bits for event ids and rows, so that a hash table can take a whole batch.

A key is two independent 64-bit hashes. One would not do: the known ids of a minute at 150,000
events/s are 9 million, so 64 bits would take a new id for a known one about twice per year, and
refuse a good event. With 128 bits that is once in 10^18 years, so no table keeps the ids
themselves.

They are made by kernels/hashing.py; the functions here are its reference. Polars promises its
hashes for one process only, so keys are neither stored nor sent.
"""

from __future__ import annotations

import numpy as np
import polars as pl

KEY = np.dtype((np.uint64, 2))
SEEDS = (0x5EED, 0xFACE)
# 2^64 / golden ratio. It is odd, so multiplying by it maps 64 bits one to one: nothing is lost.
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def keys_of_ids(ids: pl.Series) -> np.ndarray:
    """Give the key of each id.

    Shape: one KEY per row.
    """
    return np.stack([ids.hash(seed=seed).to_numpy() for seed in SEEDS], axis=1)


def keys_in_partitions(keys: np.ndarray, partitions: np.ndarray) -> np.ndarray:
    """Give the key of each (partition, id), from that of the id, in its place.

    The same id in two partitions has two keys, since an event is known within its partition only.
    """
    keys[:, 0] ^= partitions.astype(np.uint64) * SPREAD
    return keys


def keys_of_rows(frame: pl.DataFrame) -> np.ndarray:
    """Give the key of each row by all its columns.

    Shape: one KEY per row.
    """
    return np.stack([frame.hash_rows(seed=seed).to_numpy() for seed in SEEDS], axis=1)


def keys_of_pairs(rows: np.ndarray, values: pl.DataFrame) -> np.ndarray:
    """Give the key of each (row, value) from the rows' own keys.

    Shape: one KEY per row.
    """
    # Spread first: a row's hash is made of the hashes of its columns, and under a plain XOR the
    # hash of a value that is one of them could cancel it.
    keys: np.ndarray = rows * SPREAD ^ keys_of_rows(values)
    return keys
