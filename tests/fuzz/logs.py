"""Logs of a raw topic: spoilt records, and spoilt sequences of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.mutations import FIELDS, Event, good_event, spoilt, written
from tests.support.plain_oracle import Limits, Stored
from tests.support.web_events import NOON

PARTITIONS = 3
LIMITS = Limits(max_bytes=40_000)
NIL = "00000000-0000-0000-0000-000000000000"
KEYS = (None, b"", b"key", b"\xff\x00", b"k" * 2_000)
# of 1,000: what is wrong with a record, beside its place in time
FIELD, BYTES, BOTH, EMPTY, HUGE = 150, 150, 20, 5, 1
POOL = 200


@dataclass
class _Partition:
    """Where the log of a partition is. Units: `clock` in ms."""

    offset: int = 0
    clock: int = NOON
    recent: list[tuple[Event, bytes]] = field(default_factory=list)


def log_of(seed: int, count: int) -> Iterator[Stored]:
    """Make `count` records, in offset order within each partition.

    The same seed makes the same log.
    """
    chance = random.Random(seed)
    partitions = [_Partition(offset=1_000 * p) for p in range(PARTITIONS)]
    pool = [written(chance, good_event(chance, n, NOON)) for n in range(POOL)]
    for number in range(count):
        p = chance.choice([0, 0, 0, 1, 1, 2])
        partition = partitions[p]
        partition.clock += _pause(chance)
        value = _value(chance, partition, number, pool)
        yield Stored(p, partition.offset, max(partition.clock, 0), value, _key(chance))
        # markers of transactions take offsets, too
        partition.offset += chance.choice([1] * 20 + [2])


def _pause(chance: random.Random) -> int:
    if chance.random() < 0.0005:
        return chance.choice([61_000, 3_600_000, 86_400_000, -30_000, -120_000])
    return chance.randrange(20)


def _key(chance: random.Random) -> bytes | None:
    return b"visitor-1" if chance.random() < 0.9 else chance.choice(KEYS)


def _value(
    chance: random.Random, partition: _Partition, number: int, pool: list[bytes]
) -> bytes | None:
    fault = chance.randrange(1_000)
    if fault < EMPTY:
        return chance.choice([None, b""])
    if fault < EMPTY + HUGE:
        return b"\0" * chance.choice([LIMITS.max_bytes, LIMITS.max_bytes + 1])
    if partition.recent and chance.random() < 0.1:
        return _again(chance, partition)
    e = good_event(chance, chance.getrandbits(128), _time(chance, partition.clock))
    fault -= EMPTY + HUGE
    if fault < FIELD + BOTH:
        for _ in range(chance.choice([1, 1, 2])):
            chance.choice(FIELDS)(chance, e)
    value = written(chance, e)
    if fault < BOTH or FIELD + BOTH <= fault < FIELD + BOTH + BYTES:
        return spoilt(value, chance, pool)
    partition.recent.append((e, value))
    del partition.recent[:-POOL]
    return value


def _time(chance: random.Random, clock: int) -> int:
    """Give an event time: mostly a moment ago, at times at an edge of what is taken."""
    if chance.random() < 0.97:
        return clock - chance.randrange(3_000)
    edge = chance.choice([LIMITS.tolerance, -LIMITS.lateness, 0, -3_600_000, 86_400_000])
    return clock + edge + chance.randrange(-2, 3)


def _again(chance: random.Random, partition: _Partition) -> bytes:
    """Repeat a record, or its id with another content."""
    e, value = chance.choice(partition.recent)
    kind = chance.randrange(10)
    if kind < 5:
        return value
    changed = dict(e)
    if kind < 7:
        changed["page"] = f"/other/{chance.randrange(3)}"
    elif kind < 9:
        changed["event_time"] = _time(chance, partition.clock)
    else:
        changed |= {"event_id": NIL, "event_time": _time(chance, partition.clock)}
    return written(chance, changed)
