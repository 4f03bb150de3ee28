"""What happened before today: the shoppers of the generator over days gone by, busy by day and
quiet by night.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from generators.shoppers.lanes import Shoppers
from generators.shoppers.pools import make_pools
from generators.shoppers.sessions import make_walks

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
# many shoppers who take their time: a round of few would cost as much as one of many
LANES = 1024
# visits by hour of the UTC day and by day of the week, Monday first; only their proportions matter
HOURS = (
    20,
    12,
    8,
    6,
    6,
    9,
    18,
    35,
    55,
    70,
    80,
    88,
    98,
    92,
    85,
    84,
    88,
    98,
    115,
    135,
    140,
    120,
    80,
    42,
)
WEEKDAYS = (96, 92, 94, 98, 104, 122, 114)
# a quarter of a tenth more or less from one day to the next, and a sale on Friday evening
DAILY_NOISE = 0.08
SALE_WEEKDAY, SALE_HOURS, SALE_FACTOR = 4, (18, 19), 2.5


@dataclass(frozen=True)
class Past:
    """A stretch of time before now. Units: `rate` is events a second, on average. Time: `[start,
    end)`, whole minutes.
    """

    start: datetime
    end: datetime
    rate: float
    seed: int = 1
    visitors: int = 20_000
    products: int = 400

    @classmethod
    def until(cls, end: datetime, days: int, rate: float, seed: int) -> Past:
        last = end.astimezone(UTC).replace(second=0, microsecond=0)
        return cls(last - timedelta(days=days), last, rate, seed)


@dataclass(frozen=True)
class PastDay:
    """What is left of a UTC day in the stretch. Shape: `events` has the columns of web_event v2, by
    event time.
    """

    start: datetime
    events: pa.RecordBatch


def past_days(past: Past) -> Iterator[PastDay]:
    """Tell the stretch day by day. The same stretch and seed give the same events
    (test_the_same_past_twice_is_the_same).
    """
    pools = make_pools(past.seed, past.visitors, past.products)
    shoppers = Shoppers(past.seed, pools, make_walks(past.seed), LANES)
    first, last = (int(moment.timestamp() * 1000) for moment in (past.start, past.end))
    for day in range(first // DAY_MS, -(-last // DAY_MS)):
        minutes = np.arange(max(first, day * DAY_MS), min(last, (day + 1) * DAY_MS), MINUTE_MS)
        chance = np.random.default_rng([past.seed, day])
        level = past.rate * 60 * np.exp(chance.normal(0, DAILY_NOISE))
        counts = chance.poisson(level * busyness(minutes))
        times = np.repeat(minutes, counts) + chance.integers(0, MINUTE_MS, counts.sum())
        times.sort()
        told = shoppers.emit(times * 1000, times, in_sale(times))
        yield PastDay(datetime.fromtimestamp(int(minutes[0]) / 1000, UTC), told.batch)


def busyness(times_ms: np.ndarray) -> np.ndarray:
    """How busy a shop is at these times; 1 is the mean of a week without sales."""
    hour = times_ms % DAY_MS / HOUR_MS
    by_hour = np.interp(hour, np.arange(25), [*HOURS, HOURS[0]]) / np.mean(HOURS)
    by_day = np.array(WEEKDAYS)[weekday(times_ms)] / np.mean(WEEKDAYS)
    busy: np.ndarray = by_hour * by_day * np.where(in_sale(times_ms), SALE_FACTOR, 1.0)
    return busy


def in_sale(times_ms: np.ndarray) -> np.ndarray:
    on: np.ndarray = (weekday(times_ms) == SALE_WEEKDAY) & np.isin(
        times_ms % DAY_MS // HOUR_MS, SALE_HOURS
    )
    return on


def weekday(times_ms: np.ndarray) -> np.ndarray:
    """Monday is 0; 1970 began with a Thursday."""
    found: np.ndarray = (times_ms // DAY_MS + 3) % 7
    return found
