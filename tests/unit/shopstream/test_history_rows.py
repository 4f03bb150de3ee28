"""Synthetic rows are what flows would have counted of the same events, and their roll-ups are their
sums."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from flows.domain.families import RULES as EVERY_RULE
from flows.domain.rollups import BY_GRAIN, ROLLUPS, SYNTHETIC, Grain
from flows.domain.tables import GOLD, OUTCOMES, RULES
from generators.shoppers.history import History, HistoryDay, history_days
from shopstream.backfill.load import rows_of
from shopstream.backfill.quality_rows import TROUBLE
from tests.support import plain_oracle as oracle

END = datetime(2026, 3, 7, 3, 20, tzinfo=UTC)
PAST = History.until(END, 1, 0.5, seed=5)
pytestmark = pytest.mark.slow  # it counts days of events twice


@pytest.fixture(scope="module")
def days() -> list[HistoryDay]:
    return list(history_days(PAST))


@pytest.fixture(scope="module")
def rows(days: list[HistoryDay]) -> dict[str, pl.DataFrame]:
    """Table -> all its rows."""
    frames: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for day in days:
        for part in rows_of(day, PAST):
            for table, frame in part:
                frames[table.name].append(frame)
    return {name: pl.concat(parts) for name, parts in frames.items()}


def test_every_table_gets_rows_with_its_columns_and_one_row_a_key(
    rows: dict[str, pl.DataFrame],
) -> None:
    tables = {table.name: table for tables in BY_GRAIN.values() for table in tables}
    assert rows.keys() == tables.keys()
    for name, frame in rows.items():
        assert frame.columns == list(tables[name].columns)
        assert frame.select(tables[name].keys).is_duplicated().sum() == 0, name
        assert set(frame["partition"]) == {SYNTHETIC}
        assert frame.null_count().sum_horizontal().item() == 0


def as_event(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"event_time": int(row["event_time"].replace(tzinfo=UTC).timestamp() * 1000)}


def test_history_is_counted_as_flows_count(
    days: list[HistoryDay], rows: dict[str, pl.DataFrame]
) -> None:
    """Against the plain oracle that proves the flows too."""
    expected = oracle.gold(
        [(SYNTHETIC, as_event(row)) for day in days for row in day.events.to_pylist()]
    )
    assert sum(map(len, expected.values())) > 20_000
    for name, table in GOLD.items():
        keys = len(table.keys)
        names = list(table.columns)[keys:]
        counted = {
            (int(row[0].timestamp() * 1000), *row[1:keys]): {
                m: n for m, n in zip(names, row[keys:], strict=True) if n
            }
            for row in rows[table.name].iter_rows()
        }
        assert counted == expected[name], name


def test_hours_and_days_are_sums_of_minutes(rows: dict[str, pl.DataFrame]) -> None:
    for rollup in ROLLUPS:
        width = timedelta(hours=1) if rollup.grain is Grain.HOUR else timedelta(days=1)
        totals: dict[Any, list[int]] = {}
        for row in (
            rows[rollup.finer.name].select("window_start", *rollup.by, *rollup.sums).iter_rows()
        ):
            start = datetime.fromtimestamp(
                row[0].timestamp() // width.total_seconds() * width.total_seconds(), UTC
            )
            total = totals.setdefault((start, *row[1 : 1 + len(rollup.by)]), [0] * len(rollup.sums))
            total[:] = [a + b for a, b in zip(total, row[1 + len(rollup.by) :], strict=True)]
        frame = rows[rollup.table.name].select("window_start", *rollup.by, *rollup.sums)
        cut = 1 + len(rollup.by)
        assert {row[:cut]: list(row[cut:]) for row in frame.iter_rows()} == totals, (
            rollup.table.name
        )


def total(frame: pl.DataFrame, column: str, *where: pl.Expr) -> int:
    return int(frame.filter(*where).select(pl.col(column).sum()).item())


def test_the_accounts_of_quality_fit_the_numbers(
    days: list[HistoryDay], rows: dict[str, pl.DataFrame]
) -> None:
    """What was accepted is what was counted; what was refused broke a rule, and no rule is broken
    more than checked."""
    outcomes, rules = rows[OUTCOMES.name], rows[RULES.name]
    accepted = total(outcomes, "records", pl.col("outcome") == "accepted")
    assert accepted == sum(day.events.num_rows for day in days)
    assert accepted == total(rows[GOLD["traffic_1m"].name], "events")
    refused = total(outcomes, "records") - accepted
    assert 0 < refused < accepted / 5
    assert total(rules, "broken") == refused
    assert (rules["broken"] <= rules["checked"]).all()
    assert set(rules["rule"]) <= EVERY_RULE.keys()
    checked = total(rules, "checked", pl.col("rule") == "RECORD_TOO_LARGE")
    assert checked == accepted + refused, "every record is checked for its size"


def test_no_flow_has_the_topic_of_synthetic_outcomes(rows: dict[str, pl.DataFrame]) -> None:
    for table in (OUTCOMES, RULES):
        assert set(rows[table.name]["source_topic"]) == {"synthetic"}


@pytest.mark.parametrize("bad", TROUBLE, ids=lambda bad: bad.title)
def test_trouble_shows_in_its_hours(bad: Any) -> None:
    began = bad.began(END)
    past = History(began - timedelta(hours=2), began + timedelta(hours=2), 5.0)
    (day,) = history_days(past)
    parts = {
        table.name: frame
        for part in rows_of(day, History(past.start, END, 5.0))
        for table, frame in part
    }
    of_code = parts[OUTCOMES.name].filter(pl.col("code") == str(bad.code))
    before = total(of_code, "records", pl.col("window_start") < began)
    assert total(of_code, "records") - before > 4 * before
