"""History: the generator's shoppers over past days, busy by day and quiet by night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from generators.shoppers.lanes import Shoppers
from generators.shoppers.pools import make_pools
from generators.shoppers.sessions import make_session_paths

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
# A round over few lanes costs as much as one over many, so there are more shoppers than the rate of
# a history needs, and each takes longer.
LANES = 1024
# Visits by hour of the UTC day and by day of the week, Monday first; only their ratios matter.
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
# The standard deviation of the logarithm of a day's events: days differ by about 8 %.
DAILY_NOISE = 0.08
# A sale on Friday evening.
SALE_WEEKDAY, SALE_HOURS, SALE_FACTOR = 4, (18, 19), 2.5


@dataclass(frozen=True)
class History:
    """A range of past time to fill with synthetic shoppers.

    Units: `rate` is events per second, on average.
    Time: `[start, end)`, whole minutes.
    """

    start: datetime
    end: datetime
    rate: float
    seed: int = 1
    visitors: int = 20_000
    products: int = 400

    @classmethod
    def until(cls, end: datetime, days: int, rate: float, seed: int) -> History:
        """Take the days before the last whole minute."""
        last_minute = end.astimezone(UTC).replace(second=0, microsecond=0)
        return cls(last_minute - timedelta(days=days), last_minute, rate, seed)


@dataclass(frozen=True)
class HistoryDay:
    """The part of a UTC day that lies in the range.

    Shape: `events` has the columns of web_event v2, in the order of event time.
    """

    start: datetime
    events: pa.RecordBatch


def history_days(history: History) -> Iterator[HistoryDay]:
    """Generate the range day by day.

    The same range and seed give the same events (test_the_same_history_twice_is_the_same).
    """
    pools = make_pools(history.seed, history.visitors, history.products)
    shoppers = Shoppers(history.seed, pools, make_session_paths(history.seed), LANES)
    first, last = (int(moment.timestamp() * 1000) for moment in (history.start, history.end))
    for day in range(first // DAY_MS, -(-last // DAY_MS)):
        minutes = np.arange(max(first, day * DAY_MS), min(last, (day + 1) * DAY_MS), MINUTE_MS)
        rng = np.random.default_rng([history.seed, day])
        level = history.rate * 60 * np.exp(rng.normal(0, DAILY_NOISE))
        counts = rng.poisson(level * busyness(minutes))
        times = np.repeat(minutes, counts) + rng.integers(0, MINUTE_MS, counts.sum())
        times.sort()
        events = shoppers.emit(times * 1000, times, in_sale(times))
        yield HistoryDay(datetime.fromtimestamp(int(minutes[0]) / 1000, UTC), events.batch)


def busyness(times_ms: np.ndarray) -> np.ndarray:
    """Give how busy a shop is at these times.

    Units: 1 is the mean of a week without sales.
    """
    hour = times_ms % DAY_MS / HOUR_MS
    by_hour = np.interp(hour, np.arange(25), [*HOURS, HOURS[0]]) / np.mean(HOURS)
    by_day = np.array(WEEKDAYS)[weekday(times_ms)] / np.mean(WEEKDAYS)
    busy: np.ndarray = by_hour * by_day * np.where(in_sale(times_ms), SALE_FACTOR, 1.0)
    return busy


def in_sale(times_ms: np.ndarray) -> np.ndarray:
    """Tell which times lie in the weekly sale."""
    hour = times_ms % DAY_MS // HOUR_MS
    sale: np.ndarray = (weekday(times_ms) == SALE_WEEKDAY) & np.isin(hour, SALE_HOURS)
    return sale


def weekday(times_ms: np.ndarray) -> np.ndarray:
    """Give the UTC day of the week; Monday is 0.

    Time: 1970-01-01 was a Thursday.
    """
    day: np.ndarray = (times_ms // DAY_MS + 3) % 7
    return day
