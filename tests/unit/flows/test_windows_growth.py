from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flows.domain import windows
from flows.domain.web import WEB
from flows.domain.web.metrics import TRAFFIC_1M
from flows.domain.windows import Windows, starts_of

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that grow again and again: what is written while one grows must be in the new one."""
    monkeypatch.setattr(windows, "MIN_CAPACITY", 8)


def events(first: int, count: int) -> pl.DataFrame:
    """Events of `count` visitors in as many countries; each visitor comes twice."""
    rows = [(n, n) for n in range(first, first + count)] * 2
    return pl.DataFrame(
        {
            "event_time": [START + timedelta(milliseconds=n) for n, _ in rows],
            "partition": pl.Series([0] * len(rows), dtype=pl.Int32),
            "is_new": [True] * len(rows),
            "shop_id": ["shop"] * len(rows),
            "event_type": ["PAGE_VIEW"] * len(rows),
            "channel": ["ADS"] * len(rows),
            "device": ["MOBILE"] * len(rows),
            "country": [f"C{n % 37}" for n, _ in rows],
            "visitor_id": [f"v{n}" for _, n in rows],
        },
        schema_overrides={"event_time": pl.Datetime("ms", "UTC")},
    )


def answers(counted: Windows, frame: pl.DataFrame) -> pl.DataFrame:
    starts = frame["event_time"].dt.truncate("1m").alias(starts_of(TRAFFIC_1M))
    return frame.with_columns(starts).select("is_new", **counted.questions)


def test_visitors_are_exact_however_often_the_table_grows() -> None:
    counted = Windows(TRAFFIC_1M, cap=10)
    for batch in range(20):
        counted.add_frame(answers(counted, events(batch * 10, 10)))
    rows = counted.take().frame
    assert rows["events"].sum() == 400
    assert rows["visitors"].sum() == 200
    expected = {f"C{c}": sum(n % 37 == c for n in range(200)) for c in range(37)}
    assert dict(zip(rows["country"], rows["visitors"], strict=True)) == expected


def test_a_window_that_does_not_divide_the_longest_is_refused() -> None:
    odd = replace(TRAFFIC_1M, window=timedelta(minutes=7))
    longest = replace(TRAFFIC_1M, name="traffic_10m", window=timedelta(minutes=10))
    with pytest.raises(ValueError, match="traffic_1m: its window must divide the longest"):
        replace(WEB, metrics=(odd, longest))
