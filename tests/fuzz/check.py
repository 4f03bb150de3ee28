"""Hold what becomes of a log against the rules once more, record by record and cell by cell."""

from __future__ import annotations

import random
from collections import Counter

from tests.fuzz.logs import LIMITS, PARTITIONS, log_of
from tests.fuzz.road import Road
from tests.support import plain_oracle as oracle

CAP = 100
RECORDS = 10_000
"""Of one log."""


class Wrong(AssertionError):
    """A log whose outcome is not what the rules say."""


def check(seed: int, count: int = RECORDS) -> Counter[str]:
    """Take a log all the way in batches of any size; give the outcomes by code.

    Errors: Wrong for the first difference, and whatever a crash raises.
    """
    log = list(log_of(seed, count))
    expected = oracle.judge(log, LIMITS)
    # every fourth log goes by the references of the compiled kernels
    road = Road(LIMITS, range(PARTITIONS), CAP, kernels=seed % 4 != 0)
    chance = random.Random(seed)
    accepted = []
    start = 0
    while start < len(log):
        size = chance.choice([1, 7, 100, 2_000, 5_000])
        for record, (outcome, code) in road.drive(log[start : start + size]):
            verdict = expected[record.partition, record.offset]
            if (outcome, code) != (verdict.outcome, verdict.code):
                raise Wrong(
                    f"log {seed}, partition {record.partition}, offset {record.offset}: {outcome}"
                    f" {code}, not {verdict.outcome} {verdict.code}: {record.value!r}"
                )
            if outcome == "accepted":
                accepted.append((record.partition, oracle.read(record.value, LIMITS.max_bytes)))
        start += size
    gold = oracle.gold(accepted, CAP)
    for metric, rows in gold.items():
        if rows != road.gold[metric]:
            keys = rows.keys() | road.gold[metric].keys()
            key = next(k for k in keys if rows.get(k) != road.gold[metric].get(k))
            raise Wrong(
                f"log {seed}, {metric} {key}: {road.gold[metric].get(key)}, not {rows.get(key)}"
            )
    if road.outcomes.total() != count:
        raise Wrong(f"log {seed}: {road.outcomes.total()} outcomes of {count} records")
    return road.outcomes
