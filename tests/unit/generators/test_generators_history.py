"""History: the same each time, busy when shops are busy, and only within its range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from generators.shoppers.history import HOUR_MS, History, HistoryDay, busyness, history_days

END = datetime(2026, 3, 8, 9, 30, 59, tzinfo=UTC)  # a Sunday


def times(history: History) -> np.ndarray:
    """Event times of the whole range, in ms."""
    days = [
        day.events.column("event_time").cast("int64").to_numpy() for day in history_days(history)
    ]
    return np.concatenate(days)


def test_the_same_history_twice_is_the_same() -> None:
    history = History.until(END, 2, 0.2, seed=3)
    first, second = ([day.events for day in history_days(history)] for _ in range(2))
    assert [a.equals(b) for a, b in zip(first, second, strict=True)] == [True] * 3
    other = next(iter(history_days(History.until(END, 2, 0.2, seed=4)))).events
    assert not first[0].equals(other)


def test_a_history_ends_with_the_last_whole_minute_and_comes_in_utc_days() -> None:
    history = History.until(END, 2, 0.5, seed=1)
    assert (history.start, history.end) == (
        datetime(2026, 3, 6, 9, 30, tzinfo=UTC),
        datetime(2026, 3, 8, 9, 30, tzinfo=UTC),
    )
    event_times = times(history)
    assert event_times.min() >= history.start.timestamp() * 1000
    assert event_times.max() < history.end.timestamp() * 1000
    assert (np.diff(event_times) >= 0).all()
    starts = [day.start for day in history_days(history)]
    assert starts == [
        history.start,
        datetime(2026, 3, 7, tzinfo=UTC),
        datetime(2026, 3, 8, tzinfo=UTC),
    ]


def test_a_week_has_about_the_events_that_were_asked_for() -> None:
    events = len(times(History.until(END, 7, 1.0, seed=1)))
    assert events == pytest.approx(7 * 86_400, rel=0.15)


def test_evenings_are_busier_than_nights_and_saturdays_than_tuesdays() -> None:
    event_times = times(History.until(END, 7, 1.0, seed=1))
    by_hour = np.bincount(event_times % 86_400_000 // HOUR_MS, minlength=24)
    assert by_hour[20] > 5 * by_hour[3]
    by_day = np.bincount((event_times // 86_400_000 + 3) % 7, minlength=7)
    assert by_day[5] > by_day[1]


def test_friday_evening_is_a_sale_of_one_product() -> None:
    thursday = int(datetime(2026, 3, 5, 18, 30, tzinfo=UTC).timestamp() * 1000)
    before, during = busyness(np.array([thursday, thursday + 86_400_000]))
    assert during > 2 * before
    friday = datetime(2026, 3, 6, tzinfo=UTC)
    (sale,) = history_days(History(friday + timedelta(hours=18), friday + timedelta(hours=20), 2.0))
    (usual,) = history_days(
        History(friday + timedelta(hours=15), friday + timedelta(hours=17), 2.0)
    )

    def share(day: HistoryDay) -> float:
        lists = day.events.column("items").to_pylist()
        products = [item["product_id"] for items in lists for item in items]
        return products.count("p-0000") / len(products)

    assert share(sale) > 2 * share(usual)
