"""Which topic of a name an offset is of.

A topic that is deleted and made anew gives the same offsets again, and so does one whose end was
cut off by a crash of the broker. So the identity of a record is (incarnation, partition, offset).
An incarnation is a number made from the topic's id, and a generation that counts the cuts. Gold and
quality keep each incarnation in a lane of partition numbers of its own: nothing of a new one can
pass for a repetition of the old.
"""

from __future__ import annotations

UNKNOWN = 0
"""Of a topic whose broker tells no id, and of records from before incarnations were told."""

GENERATIONS = 256
# Of the generations, those below this are cuts of the raw topic, and its multiples gaps in the
# clean topic (ops.gold_account reads them, too).
CUTS = 16

# Partition numbers in tables: lane * MOST_PARTITIONS + the partition in Kafka. Below 0 is what no
# record was counted for (domain/rollups.py).
MOST_PARTITIONS = 10_000
MOST_LANES = 100


def incarnation_of(topic_id: tuple[int, int]) -> int:
    """Make the number of a topic's first generation from the two halves of its id (128 bits)."""
    high, low = topic_id
    # 22 bits, and 8 for generations: two ids of one topic meet once in four million
    mixed = (high ^ low) & (2**64 - 1)
    return ((mixed ^ mixed >> 22 ^ mixed >> 44) % (2**22 - 1) + 1) * GENERATIONS


def after_a_cut(incarnation: int) -> int:
    """Give the next generation: offsets behind the cut are given a second time."""
    return incarnation + 1


def generation_of(incarnation: int) -> int:
    """Count how often the end of the topic was cut off, or records were lost."""
    return incarnation % GENERATIONS


def behind_gaps(incarnation: int, gaps: int) -> int:
    """Give the incarnation under which is counted what comes behind gaps in the clean topic."""
    return incarnation if incarnation == UNKNOWN else incarnation + CUTS * min(gaps, CUTS - 1)


def same_topic(one: int, other: int) -> bool:
    """Say whether two incarnations are generations of one topic."""
    return one // GENERATIONS == other // GENERATIONS


def numbered(lane: int, partition: int) -> int:
    """Give the number of a partition in tables."""
    return lane * MOST_PARTITIONS + partition
