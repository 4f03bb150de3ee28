"""The hour at which seeded data end: a setting, so that a suite that passes passes at any hour.

Seeded rows follow the hour of the day, as a shop's do, and what a panel or an alert compares is
different after midnight and at noon. Queries take their range from parameters, so tests need no
patched clock: they look at a day that ended at the chosen hour. Without a choice the hour follows
from the date, and in 24 days each one has its turn.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

VARIABLE = "TEST_HOUR"
# 24 and 7 have no common divisor: two days in a row are far apart, and 24 days see every hour
HOURS_PER_DAY_OF_ROTATION = 7
# at 40 past midnight a range of an hour lies on both sides of it
MINUTE = 40


@cache
def chosen_hour() -> int:
    """Give the hour of `TEST_HOUR`, else that of today's turn. Errors: pytest.UsageError."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return datetime.now(UTC).toordinal() * HOURS_PER_DAY_OF_ROTATION % 24
    if not text.isdecimal() or int(text) > 23:
        raise pytest.UsageError(f"{VARIABLE}={text!r}: an hour is a number from 0 to 23")
    return int(text)


@cache
def seeded_end() -> datetime:
    """Give the end of seeded data, the same for the whole session.

    Time: the last `HH:40` UTC that is over.
    """
    now = datetime.now(UTC)
    end = now.replace(hour=chosen_hour(), minute=MINUTE, second=0, microsecond=0)
    return end if end <= now else end - timedelta(days=1)
