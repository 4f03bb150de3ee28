"""The hour at which seeded data end: chosen, or a different one each day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.support.time_of_day import MINUTE, hour_of, last_end

TODAY = date(2026, 3, 1)


def test_every_hour_has_its_turn_within_24_days() -> None:
    days = [TODAY + timedelta(days=n) for n in range(24)]
    assert sorted(hour_of("", day) for day in days) == list(range(24))


@pytest.mark.parametrize(("text", "hour"), [("0", 0), ("07", 7), ("23", 23)])
def test_a_chosen_hour_is_taken(text: str, hour: int) -> None:
    assert hour_of(text, TODAY) == hour


@pytest.mark.parametrize("text", ["24", "-1", "noon", "1.5"])
def test_what_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="TEST_HOUR"):
        hour_of(text, TODAY)


@pytest.mark.parametrize("hour", range(24))
def test_an_end_is_over_and_less_than_a_day_old(hour: int) -> None:
    now = datetime(2026, 3, 1, 12, MINUTE, 30, tzinfo=UTC)
    end = last_end(now, hour)
    assert (end.hour, end.minute) == (hour, MINUTE)
    assert timedelta(0) <= now - end < timedelta(days=1)
