"""Whether an event is in the partition of its key.

Each partition is counted for itself. So all that one visitor sends must be in one, or the visitor
is counted once in each, and a repeat in another partition passes for a new event. Producers key
their records by the family's `key`, and place them as Java's client does, by murmur2.
"""

from __future__ import annotations

import numpy as np

from flows.domain.family import Family
from flows.domain.judge import Judged

SAMPLE = 16
"""So many events of a batch are looked at: who places wrongly does so often."""


def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition that Java's default partitioner chooses for a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Hash bytes as Kafka's Java client does (org.apache.kafka.common.utils.Utils.murmur2)."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * mix & mask
        k = (k ^ k >> 24) * mix & mask
        value = (value * mix & mask) ^ k
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15


class Placement:
    """Look at some events of each batch.

    State: none; which events are looked at follows from the batch.
    """

    def __init__(self, family: Family, partitions: int) -> None:
        self._key, self._partitions = family.key, partitions

    def misplaced(self, judged: Judged) -> tuple[int, int]:
        """Count the events that were looked at, and those in another partition than their key's."""
        events = judged.events
        if not len(events):
            return 0, 0
        chosen = np.linspace(0, len(events) - 1, min(SAMPLE, len(events)), dtype=np.int64)
        # by index, because `gather` makes a query
        keys = events[self._key][chosen].to_list()
        partitions = judged.batch.partition[events["row"].to_numpy()[chosen]].tolist()
        wrong = sum(
            partition_of(key.encode(), self._partitions) != p
            for key, p in zip(keys, partitions, strict=True)
        )
        return len(keys), wrong
