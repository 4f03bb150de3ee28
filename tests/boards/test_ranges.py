"""The table fits the range: one grain is read for a chart, and totals are those of every minute,
from few rows."""

from __future__ import annotations

import itertools
import math
import re
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grafana.macros import Surroundings, expand
from grafana.ranges import LAST_WEEK, YESTERDAY, Source, points
from tests.support.shop_database import Shop

ORDERS = Source("gold.orders", ("currency", "orders", "net_minor"), ("currency = 'GBP'",))
# hours of a range, and the tables that it is read from: beyond six its ends are minutes
GRAINS = {
    1: {"1m"},
    6: {"1m"},
    7: {"1m", "1h"},
    24 * 8: {"1m", "1h"},
    24 * 9: {"1m", "1h", "1d"},
    24 * 30: {"1m", "1h", "1d"},
}
BACK = {"range": 0, "day before": YESTERDAY, "week before": LAST_WEEK}
POINTS = {1: 60, 2: 60, 3: 300, 6: 300, 7: 3_600, 24 * 8: 3_600, 24 * 9: 86_400}


def explained(shop: Shop, sql: str, start: datetime, end: datetime) -> str:
    text = expand(sql, Surroundings(start, end))
    return "\n".join(
        row[0]
        for row in shop.reader.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}".encode())
    )


def tables(shop: Shop, plan: str) -> set[str]:
    """The grains of the tables that the plan reads. On TimescaleDB it names chunks: ask whose they
    are."""
    grains = {m for m in re.findall(r" on orders_(1[mhd])_", plan)}
    chunks = re.findall(r" on (_hyper_\d+_\d+_chunk)", plan)
    if chunks:
        rows = shop.reader.execute(
            "SELECT DISTINCT hypertable_name FROM timescaledb_information.chunks WHERE chunk_name ="
            " ANY(%s)",
            (chunks,),
        )
        grains |= {name.split("_")[1] for (name,) in rows}
    return grains


@pytest.mark.parametrize("hours", GRAINS)
def test_only_the_grain_of_the_range_is_read(shop: Shop, hours: int) -> None:
    end = shop.end + timedelta(minutes=7)
    start = end - timedelta(hours=hours)
    plan = explained(shop, f"SELECT sum(orders) FROM {ORDERS.rows()}", start, end)
    assert "between" not in plan  # inlined: a call would read all columns of all rows
    assert tables(shop, plan) <= GRAINS[hours], plan


@pytest.mark.parametrize("hours", POINTS)
@pytest.mark.parametrize("whole", [True, False])
def test_points_are_as_long_as_the_range_asks(shop: Shop, hours: int, whole: bool) -> None:
    end = shop.end + timedelta(minutes=7, seconds=31)
    start, length = end - timedelta(hours=hours), timedelta(seconds=POINTS[hours])
    around = Surroundings(start, end)
    rows = shop.reader.execute(expand(f"SELECT time FROM {points(whole)}", around).encode())
    times = [time for (time,) in rows]
    assert all(b - a == length for a, b in itertools.pairwise(times))
    assert times[-1] <= end < times[-1] + length + timedelta(seconds=1)
    first = start if whole else start - length
    assert first <= times[0] < first + length + timedelta(seconds=1)


def test_thirty_days_are_read_from_days_and_their_ends(shop: Shop) -> None:
    start, end = shop.start - timedelta(days=1), shop.end + timedelta(minutes=7)
    plan = explained(shop, f"SELECT sum(orders) FROM {ORDERS.rows()}", start, end)
    assert tables(shop, plan) == {"1m", "1h", "1d"}
    rows = sum(
        int(n)
        for n in re.findall(
            r"(?:orders_1m_by_partition|_hyper_1_\d+_chunk)\S* \(actual rows=(\d+)", plan
        )
    )
    everything = shop.reader.execute(
        "SELECT count(*) FROM gold.orders_1m WHERE currency = 'GBP'"
    ).fetchone()
    assert everything
    assert rows < everything[0] / 20


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.integers(-600, 8 * 1_440),
    length=st.integers(0, 9 * 1_440),
    seconds=st.integers(0, 59),
    span=st.sampled_from(sorted(BACK)),
)
def test_a_total_is_that_of_every_minute(
    shop: Shop, start: int, length: int, seconds: int, span: str
) -> None:
    since = shop.start + timedelta(minutes=start, seconds=seconds)
    until = since + timedelta(minutes=length)
    totals = shop.reader.execute(
        expand(
            "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(net_minor), 0)::bigint FROM"
            f" {ORDERS.rows(BACK[span])}",
            Surroundings(since, until),
        ).encode()
    ).fetchone()
    if BACK[span]:
        spans = math.ceil((until - since) / timedelta(days=BACK[span]))
        since, until = (t - spans * timedelta(days=BACK[span]) for t in (since, until))
    expected = shop.reader.execute(
        "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(net_minor), 0)::bigint FROM"
        " gold.orders_1m WHERE currency = 'GBP' AND window_start >= %s AND window_start < %s",
        (since, until),
    ).fetchone()
    assert totals == expected
