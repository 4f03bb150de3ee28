"""Queries become what Grafana would send; expected texts are written by hand after Grafana's own
tests and sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from grafana.macros import (
    ExpansionError,
    Surroundings,
    Value,
    expand,
    expand_alert,
    expand_prometheus,
)

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
END = datetime(2026, 3, 1, 18, 0, tzinfo=UTC)


def given(**variables: Value) -> Surroundings:
    return Surroundings(START, END, variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "WHERE $__timeFilter(t)",
            "WHERE t BETWEEN '2026-03-01T12:00:00.25Z' AND '2026-03-01T18:00:00Z'",
        ),
        ("$__timeFrom() $__timeTo()", "'2026-03-01T12:00:00.25Z' '2026-03-01T18:00:00Z'"),
        ("$__time(t)", 't AS "time"'),
        ("SELECT $__timeGroup(t, '5m'), x", "SELECT time_bucket('300.000s',t) AS \"time\", x"),
        ("GROUP BY $__timeGroup(t,1h)", "GROUP BY time_bucket('3600.000s',t)"),
        ("$__timeGroupAlias(t, '90s')", "time_bucket('90.000s',t) AS \"time\""),
        ("$__timeGroup(t, $__interval)", "time_bucket('60.000s',t)"),
        ("$__interval_ms $__interval", "60000 1m"),
        ("$__unixEpochFrom() $__unixEpochTo()", "1772366400 1772388000"),
        ("$__unixEpochFilter(e)", "e >= 1772366400 AND e <= 1772388000"),
        (
            "$__from ${__to} ${__from:date:iso} ${__to:date:seconds}",
            "1772366400250 1772388000000 2026-03-01T12:00:00.250Z 1772388000",
        ),
        ("$__range_ms $__range_s $__range", "21599750 21600 21600s"),
        ("'$' || $1 || $unknown", "'$' || $1 || $unknown"),
    ],
)
def test_a_macro_becomes_what_grafana_makes_of_it(text: str, expected: str) -> None:
    assert expand(text, given()) == expected


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (Value("GBP"), "c = '$v'", "c = 'GBP'"),
        (Value("O'Neill"), "c = '$v'", "c = 'O''Neill'"),
        (Value(""), "c = '$v'", "c = ''"),
        (Value(("a",)), "c IN ($v)", "c IN ('a')"),
        (Value(("a", "O'N", 'say "x"')), "c IN (${v})", "c IN ('a','O''N','say \"x\"')"),
        (Value(("a", "b")), "c IN ([[v]])", "c IN ('a','b')"),
        (Value("shop_id", raw=True), "shop_id IN ($v)", "shop_id IN (shop_id)"),
        (
            Value(("a", "O'N")),
            "${v:sqlstring} ${v:csv} ${v:raw} ${v:pipe} ${v:queryparam}",
            "'a','O''N' a,O'N a,O'N a|O'N var-v=a&var-v=O'N",
        ),
        (Value(("a", "b"), text="All"), "${v:text}", "All"),
        (Value(("a", "b")), "${v:json}", '["a", "b"]'),
        (Value("'); DROP TABLE x; --"), "c = '$v'", "c = '''); DROP TABLE x; --'"),
    ],
)
def test_a_variable_becomes_its_value(value: Value, text: str, expected: str) -> None:
    assert expand(text, given(v=value)) == expected


@pytest.mark.parametrize("text", ["$__nonsense(t)", "$__timeGroup(t)", "$__timeGroup(t, 'soon')"])
def test_what_grafana_refuses_is_refused(text: str) -> None:
    with pytest.raises(ExpansionError):
        expand(text, given())


def test_an_alert_has_macros_and_no_variables() -> None:
    assert (
        expand_alert("$__timeFilter(t) $__timeTo()::timestamptz", START, END)
        == "t BETWEEN '2026-03-01T12:00:00.25Z' AND '2026-03-01T18:00:00Z'"
        " '2026-03-01T18:00:00Z'::timestamptz"
    )
    for text in ("c = '$currency'", "$__nonsense(t)", "${__to}"):
        with pytest.raises(ExpansionError):
            expand_alert(text, START, END)


def test_a_format_that_boards_do_not_use_is_told() -> None:
    with pytest.raises(ExpansionError, match="lucene"):
        expand("${v:lucene}", given(v=Value("x")))


@pytest.mark.parametrize(
    ("hours", "points", "expected"),
    [
        (1, 1_000, "1m"),
        (6, 1_000, "1m"),
        (24, 500, "2m"),
        (24 * 7, 1_000, "10m"),
        (24 * 30, 1_000, "30m"),
        (24 * 30, 50, "12h"),
    ],
)
def test_an_interval_is_rounded_as_grafana_rounds(hours: int, points: int, expected: str) -> None:
    around = Surroundings(END - timedelta(hours=hours), END, width_points=points)
    assert expand("$__interval", around) == expected


def test_promql_gets_a_window_of_four_scrapes() -> None:
    around = Surroundings(END - timedelta(minutes=30), END, min_interval=timedelta(seconds=15))
    assert expand_prometheus("rate(x[$__rate_interval])", around) == "rate(x[60s])"
    assert (
        expand_prometheus('x{a=~"$v"}', Surroundings(START, END, {"v": Value(("a", "b"))}))
        == 'x{a=~"(a|b)"}'
    )
