"""The hour at which seeded data end: a setting, so that a suite that passes passes at any hour.

Seeded rows follow the hour of the day, as a shop's do, and what a panel or an alert compares is
different after midnight and at noon. Queries take their range from parameters, so tests need no
patched clock: they look at a day that ended at the chosen hour. Without a choice the hour follows
from the date, and in 24 days each one has its turn.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from functools import cache

import pytest

VARIABLE = "TEST_HOUR"
# 24 and 7 have no common divisor: two days in a row are far apart, and 24 days see every hour
HOURS_PER_DAY_OF_ROTATION = 7
# at 40 past midnight a range of an hour lies on both sides of it
MINUTE = 40


def hour_of(text: str, today: date) -> int:
    """Read a chosen hour; without one give the turn of the day. Errors: pytest.UsageError."""
    if not text:
        return today.toordinal() * HOURS_PER_DAY_OF_ROTATION % 24
    if not text.isdecimal() or int(text) > 23:
        raise pytest.UsageError(f"{VARIABLE}={text!r}: an hour is a number from 0 to 23")
    return int(text)


def last_end(now: datetime, hour: int) -> datetime:
    """Give the last end at that hour that is over."""
    end = now.replace(hour=hour, minute=MINUTE, second=0, microsecond=0)
    return end if end <= now else end - timedelta(days=1)


@cache
def seeded_end() -> datetime:
    """Give the end of seeded data, the same for the whole session.

    Time: the last `HH:40` UTC that is over, `HH` being TEST_HOUR or the turn of today.
    """
    now = datetime.now(UTC)
    return last_end(now, hour_of(os.environ.get(VARIABLE, ""), now.date()))
