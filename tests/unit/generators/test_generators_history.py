"""Days gone by: the same each time, busy when shops are busy, and only within the stretch that was
asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from generators.shoppers.history import HOUR_MS, Past, busyness, past_days

END = datetime(2026, 3, 8, 9, 30, 59, tzinfo=UTC)  # a Sunday


def times(past: Past) -> np.ndarray:
    """Event times of the whole stretch, in ms."""
    days = [day.events.column("event_time").cast("int64").to_numpy() for day in past_days(past)]
    return np.concatenate(days)


def test_the_same_past_twice_is_the_same() -> None:
    past = Past.until(END, 2, 0.2, seed=3)
    first, second = ([day.events for day in past_days(past)] for _ in range(2))
    assert [a.equals(b) for a, b in zip(first, second, strict=True)] == [True] * 3
    other = next(iter(past_days(Past.until(END, 2, 0.2, seed=4)))).events
    assert not first[0].equals(other)


def test_a_past_ends_with_the_last_whole_minute_and_comes_in_utc_days() -> None:
    past = Past.until(END, 2, 0.5, seed=1)
    assert (past.start, past.end) == (
        datetime(2026, 3, 6, 9, 30, tzinfo=UTC),
        datetime(2026, 3, 8, 9, 30, tzinfo=UTC),
    )
    found = times(past)
    assert found.min() >= past.start.timestamp() * 1000
    assert found.max() < past.end.timestamp() * 1000
    assert (np.diff(found) >= 0).all()
    starts = [day.start for day in past_days(past)]
    assert starts == [
        past.start,
        datetime(2026, 3, 7, tzinfo=UTC),
        datetime(2026, 3, 8, tzinfo=UTC),
    ]


def test_a_week_has_about_the_events_that_were_asked_for() -> None:
    events = len(times(Past.until(END, 7, 1.0, seed=1)))
    assert events == pytest.approx(7 * 86_400, rel=0.15)


def test_evenings_are_busier_than_nights_and_saturdays_than_tuesdays() -> None:
    found = times(Past.until(END, 7, 1.0, seed=1))
    by_hour = np.bincount(found % 86_400_000 // HOUR_MS, minlength=24)
    assert by_hour[20] > 5 * by_hour[3]
    by_day = np.bincount((found // 86_400_000 + 3) % 7, minlength=7)
    assert by_day[5] > by_day[1]


def test_friday_evening_is_a_sale_of_one_product() -> None:
    thursday = int(datetime(2026, 3, 5, 18, 30, tzinfo=UTC).timestamp() * 1000)
    before, during = busyness(np.array([thursday, thursday + 86_400_000]))
    assert during > 2 * before
    friday = datetime(2026, 3, 6, tzinfo=UTC)
    (sale,) = past_days(Past(friday + timedelta(hours=18), friday + timedelta(hours=20), 2.0))
    (usual,) = past_days(Past(friday + timedelta(hours=15), friday + timedelta(hours=17), 2.0))

    def share(day: object) -> float:
        items = [i["product_id"] for e in day.events.column("items").to_pylist() for i in e]  # type: ignore[attr-defined]
        return items.count("p-0000") / len(items)

    assert share(sale) > 2 * share(usual)
