"""What happens in a shop, minute by minute: nights, weekends, chance, and what can break.

Units: counts a minute; money in minor units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import pi, sin

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
PAST = timedelta(weeks=8)
WEEKEND = 0.6
ORDER_MINOR = 4_500
# shares of the records
REFUSED, LATE, REPEATED = 0.003, 0.002, 0.005
CODES = {"INVALID": 0.8, "TRUNCATED": 0.1, "UNKNOWN_SCHEMA": 0.07, "NOT_AVRO": 0.03}
SEARCHED, FOUND_NOTHING, CARTED, REFUNDED = 0.15, 0.06, 0.08, 0.03


@dataclass(frozen=True)
class Shop:
    """A shop: purchases an hour on the mean, and the share of page views that they are."""

    name: str
    purchases: float
    share: float


SHOPS = (Shop("small", 1.5, 0.004), Shop("middle", 20.0, 0.03), Shop("big", 400.0, 0.02))


@dataclass(frozen=True)
class Habits:
    """What a shop does; a fault leaves a share of the views or purchases, or changes a rate."""

    views: float = 1.0
    bought: float = 1.0
    refunded: float = REFUNDED
    found_nothing: float = FOUND_NOTHING
    refused: float = REFUSED
    late: float = LATE
    codes: dict[str, float] = field(default_factory=lambda: CODES)
    untold: int = 0
    """Records a minute without an outcome."""


HEALTHY = Habits()


@dataclass(frozen=True)
class Minutes:
    """What happened in each minute from `since` on."""

    since: datetime
    events: dict[str, Counts]
    gross_minor: Counts
    refund_minor: Counts
    found_nothing: Counts
    refused: dict[str, Counts]
    late: Counts
    repeated: Counts
    untold: int

    @property
    def accepted(self) -> Counts:
        """Sum up the events of all types."""
        return np.asarray(np.sum(list(self.events.values()), axis=0))

    @property
    def read(self) -> Counts:
        """Sum up what was read: accepted, refused, late, repeated, and what nobody tells of."""
        refused = np.asarray(np.sum(list(self.refused.values()), axis=0))
        return np.asarray(self.accepted + refused + self.late + self.repeated + self.untold)


def usual(at: datetime, an_hour: float) -> float:
    """Give what is usual in an hour: little at night, most at half past two in the afternoon."""
    hour = at.hour
    day = 0.08 + 0.92 * max(0.0, sin(pi * (hour - 7) / 15)) if 7 <= hour < 22 else 0.08
    return an_hour * 1.8 * day * (WEEKEND if at.weekday() >= 5 else 1.0)


def hours(
    shop: Shop, since: datetime, count: int, chance: np.random.Generator
) -> dict[str, Counts]:
    """Draw whole hours of page views and purchases, for the weeks before the minutes begin."""
    views = chance.poisson(
        [usual(since + timedelta(hours=h), shop.purchases / shop.share) for h in range(count)]
    )
    return {"PAGE_VIEW": views, "PURCHASE": chance.binomial(views, shop.share)}


def minutes(
    shop: Shop, since: datetime, count: int, chance: np.random.Generator, habits: Habits = HEALTHY
) -> Minutes:
    """Draw minutes of everything."""
    an_hour = [
        usual(since + timedelta(hours=h), shop.purchases / shop.share)
        for h in range(count // 60 + 1)
    ]
    rate = np.repeat(an_hour, 60)[:count] / 60 * habits.views
    views = chance.poisson(rate)
    # as many come as ever; of those who come, some buy
    bought = chance.binomial(views, shop.share * habits.bought)
    searches = chance.binomial(views, SEARCHED)
    refunds = chance.binomial(bought, habits.refunded)
    events = {
        "PAGE_VIEW": views,
        "SEARCH": searches,
        "ADD_TO_CART": chance.binomial(views, CARTED),
        "PURCHASE": bought,
        "REFUND": refunds,
    }
    total = np.sum(list(events.values()), axis=0)
    refused = chance.binomial(total, habits.refused)
    return Minutes(
        since,
        events,
        _money(bought, chance),
        _money(refunds, chance),
        chance.binomial(searches, habits.found_nothing),
        _split(refused, habits.codes, chance),
        chance.binomial(total, habits.late),
        chance.binomial(total, REPEATED),
        habits.untold,
    )


def _money(orders: Counts, chance: np.random.Generator) -> Counts:
    # the sum of so many amounts that each are exponential
    return np.asarray(chance.gamma(orders.astype(float), ORDER_MINOR), np.int64)


def _split(
    refused: Counts, codes: dict[str, float], chance: np.random.Generator
) -> dict[str, Counts]:
    drawn = chance.multinomial(refused, list(codes.values()))
    return {code: drawn[:, n] for n, code in enumerate(codes)}


@dataclass(frozen=True)
class Fault:
    """Something that breaks at noon, and how long its alert may take by the runbook.

    `stands` stops the pipeline at noon, or its roll-ups; `beside` is another shop that goes on.
    """

    rule: str
    shop: str
    what: str
    within: timedelta
    habits: Habits = HEALTHY
    stands: str = ""
    beside: Shop | None = None


def hour(n: float) -> timedelta:
    """Give so many hours."""
    return timedelta(hours=n)


ONE_IN_EIGHT = Habits(refused=0.125)
FAULTS = (
    Fault("revenue-drop", "big", "sells nothing", hour(1.5), Habits(bought=0.0)),
    Fault("revenue-drop", "big", "sells 30 % less", hour(3.5), Habits(bought=0.7)),
    Fault("revenue-drop", "middle", "sells nothing", hour(7.5), Habits(bought=0.0)),
    Fault("revenue-drop", "small", "sells nothing", hour(26), Habits(bought=0.0)),
    Fault("purchases-per-view", "big", "half of the purchases fail", hour(1.5), Habits(bought=0.5)),
    Fault("purchases-per-view", "middle", "four of five fail", hour(7.5), Habits(bought=0.2)),
    Fault(
        "shop-silent",
        "middle",
        "sends nothing, another shop does",
        hour(1.5),
        Habits(views=0.0),
        beside=Shop("beside", 20.0, 0.03),
    ),
    Fault("refund-spike", "big", "half is refunded", hour(1), Habits(refunded=0.5)),
    Fault("zero-result-searches", "middle", "nothing is found", hour(1), Habits(found_nothing=1.0)),
    Fault("dead-letter-share", "middle", "one record in eight is refused", hour(0.5), ONE_IN_EIGHT),
    Fault("dead-letter-flood", "big", "one record in eight is refused", hour(0.5), ONE_IN_EIGHT),
    Fault("late-share", "middle", "one record in twelve is late", hour(0.5), Habits(late=1 / 12)),
    Fault(
        "new-reject-code",
        "middle",
        "one record in two hundred is too large",
        hour(0.5),
        Habits(refused=0.01, codes={**CODES, "INVALID": 0.3, "TOO_LARGE": 0.5}),
    ),
    Fault("quality-score", "middle", "one record in eight is refused", hour(0.5), ONE_IN_EIGHT),
    Fault("freshness", "middle", "the pipeline stands", hour(0.25), stands="flows"),
    Fault("rollup-stale", "middle", "the roll-up job stands", hour(0.25), stands="rollup"),
    Fault("residue", "middle", "a record a minute has no outcome", hour(0.25), Habits(untold=1)),
)
"""A fault for each rule that the simulation looks at, where rows alone can make one."""
