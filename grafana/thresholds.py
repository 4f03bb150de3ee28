"""Each number beyond which someone should look, once: panels draw it and alerts fire on it.

Those of `LIMITS` are as shipped: `shopstream thresholds` moves them for alerts; panels keep their
colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from database.thresholds import LIMITS
from flows.registry import FLOWS


class Worse(StrEnum):
    """The side of a threshold on which trouble lies."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Threshold:
    """Where a number turns amber (`watch`) and red (`act`).

    Units: those of the panel; shares and scores are 0 to 1.
    """

    act: float
    watch: float | None = None
    worse: Worse = Worse.ABOVE


# business
REVENUE_CHANGE = Threshold(-0.5, -0.25, Worse.BELOW)  # against the same span before
ORDERS_DEVIATION = Threshold(LIMITS["revenue-drop"].act, None, Worse.BELOW)
PURCHASES_DEVIATION = Threshold(LIMITS["purchases-per-view"].act, None, Worse.BELOW)
REFUND_SHARE = Threshold(LIMITS["refund-spike"].act, 0.1)  # refunded of gross sales
SILENT_SHOPS = Threshold(1)  # no purchase where last week had some
ZERO_RESULT_SHARE = Threshold(LIMITS["zero-result-searches"].act, 0.15)  # of searches

# quality
QUALITY_SCORE = Threshold(LIMITS["quality-score"].act, 0.99, Worse.BELOW)
BROKEN_PER_MILLION = Threshold(50_000, 10_000)  # records, by a dimension's rules
REFUSED_SHARE = Threshold(LIMITS["dead-letter-share"].act, 0.01)  # dead letters of all records
REFUSED_PURCHASES = Threshold(10, 1)
LATE_SHARE = Threshold(LIMITS["late-share"].act, 0.005)
DUPLICATE_SHARE = Threshold(0.2, 0.05)
RESIDUE_RECORDS = Threshold(1)  # one is too many
LOST_RECORDS = Threshold(1)
NEW_CODES = Threshold(1)  # codes that were not seen in the week before
DEAD_LETTER_AGE_SECONDS = Threshold(7 * 86_400, 86_400)
MISPLACED_SHARE = Threshold(0.01, 0.001)
REJECT_BUDGET_RATIO = Threshold(0.8, 0.5)

# pipeline
FRESHNESS_SECONDS = Threshold(LIMITS["freshness"].act, 60)
LAG_SECONDS = Threshold(60, 10)
UNREAD_PARTITIONS = Threshold(1)
UNREAD_SHARE = Threshold(0.8, 0.5)  # of what Kafka still holds, once retention deletes
LAG_RECORDS = Threshold(100_000, 10_000)
LATENCY_SECONDS = Threshold(1.0, 0.25)  # 0.25 s is the bound of the objective
WATERMARK_DELAY_SECONDS = Threshold(300, 60)
FLUSH_SECONDS = Threshold(1.0, 0.25)
RETRIES = Threshold(10, 1)  # in five minutes
DISK_SHARE = Threshold(0.9, 0.8)  # used
STUCK_FLOWS = Threshold(1)
ROLLUP_AGE_SECONDS = Threshold(LIMITS["rollup-stale"].act, 60)
SEALED_CHANGES = Threshold(1)
LATENCY_BUDGET_LEFT = Threshold(0, 0.25, Worse.BELOW)
FLOWS_UP = Threshold(len(FLOWS), None, Worse.BELOW)  # one process per flow at least
FLOW_UP = Threshold(1, None, Worse.BELOW)  # of one flow
MEMORY_BYTES = Threshold(500 * 2**20, 350 * 2**20)
CPU_CORES = Threshold(0.95, 0.8)
CONNECTIONS_SHARE = Threshold(0.9, 0.7)
CACHE_HIT_SHARE = Threshold(0.9, 0.98, Worse.BELOW)

# how fast the error budget of the latency objective is spent, as a multiple of the speed that uses
# it up in a month; windows and multiples are those of the Google SRE workbook, chapter 5
LATENCY_OBJECTIVE = 0.99  # share of events that are faster than 0.25 s
BURN_FAST = Threshold(14.4)  # 2 % of a month's budget in an hour
BURN_STEADY = Threshold(6)  # 5 % in six hours
BURN_DAY = Threshold(3)  # 10 % in a day
BURN_SLOW = Threshold(1)  # 10 % in three days

# with fewer of these a share is chance, and its alert stays quiet
LEAST_ORDERS = 15  # expected in the window
LEAST_WEEKS, MOST_WEEKS = 4, 8  # of the shop's own past
LEAST_REFUNDS = 10
LEAST_SEARCHES = 50
LEAST_RECORDS = 100
MANY_REFUSED = 50  # of a quarter of an hour: worth waking someone
LEAST_USUAL_EVENTS = 30  # of a shop in an hour
LEAST_MISSED_EVENTS = 15  # that should have come since the newest one
