"""The table fits the range: one grain is read for a chart, and totals are those of every minute,
from few rows."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grafana.macros import Surroundings, expand
from grafana.ranges import BEFORE, Source, by_grain, in_points, to_the_minute
from tests.support.shop_database import Shop

ORDERS = Source("gold.orders", ("currency", "orders", "net_minor"), ("currency = 'GBP'",))
GRAINS = {
    1: "1m",
    6: "1m",
    7: "1h",
    24: "1h",
    24 * 7: "1h",
    24 * 8: "1h",
    24 * 9: "1d",
    24 * 30: "1d",
}
SHAPES = {
    "total": to_the_minute(ORDERS),
    "before": to_the_minute(ORDERS, BEFORE),
    "points": in_points(ORDERS),
}


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
    plan = explained(
        shop,
        f"SELECT sum(orders) FROM {by_grain(ORDERS)}",
        shop.end - timedelta(hours=hours),
        shop.end,
    )
    assert tables(shop, plan) == {GRAINS[hours]}, plan


def test_thirty_days_are_read_from_days_and_their_ends(shop: Shop) -> None:
    start, end = shop.start + timedelta(minutes=7), shop.end
    plan = explained(shop, f"SELECT sum(orders) FROM {to_the_minute(ORDERS)}", start, end)
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
    shape=st.sampled_from(sorted(SHAPES)),
)
def test_a_total_is_that_of_every_minute(
    shop: Shop, start: int, length: int, seconds: int, shape: str
) -> None:
    since = shop.start + timedelta(minutes=start, seconds=seconds)
    until = since + timedelta(minutes=length)
    rows = SHAPES[shape]
    totals = shop.reader.execute(
        expand(
            "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(net_minor), 0)::bigint FROM"
            f" {rows}",
            Surroundings(since, until),
        ).encode()
    ).fetchone()
    if shape == "before":
        since, until = since - (until - since), since
    expected = shop.reader.execute(
        "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(net_minor), 0)::bigint FROM"
        " gold.orders_1m WHERE currency = 'GBP' AND window_start >= %s AND window_start < %s",
        (since, until),
    ).fetchone()
    assert totals == expected
