"""SQL that chooses the table by the dashboard's time range, so that a board of thirty days reads days and not minutes.

Two shapes. `by_grain` reads one table, of minutes, hours or days, in the points of a chart: PostgreSQL drops the other
two when it plans, because the range is a constant (test_only_the_grain_of_the_range_is_read). `to_the_minute` covers
the range exactly: whole days and hours from the roll-ups, the ends from minutes; totals and rankings use it, so that
they can be compared.

Everything is made of Grafana's `$__unixEpochFrom()` and `$__unixEpochTo()`, whole seconds, and of immutable functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FROM, TO = "$__unixEpochFrom()::bigint", "$__unixEpochTo()::bigint"  # wide enough for sums of two
MINUTE, HOUR, DAY = 60, 3_600, 86_400
MINUTES_UP_TO, HOURS_UP_TO = 6 * HOUR, 8 * DAY  # the longest range that is read from minutes, and from hours
FINE_UP_TO, COARSE_MINUTES = 2 * HOUR, 5 * MINUTE  # a longer range of minutes has points of five: bars need room
SETTLED_SECONDS = 600  # an hour that ended this long ago is in the roll-ups; before that its minutes are read

LENGTH = f"({TO} - {FROM})"
GRAIN = f"(CASE WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {MINUTE} WHEN {LENGTH} <= {HOURS_UP_TO} THEN {HOUR} ELSE {DAY} END)"
"""Seconds of a row of the table that a chart reads."""
POINT = f"(CASE WHEN {LENGTH} <= {FINE_UP_TO} THEN {MINUTE} WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {COARSE_MINUTES} ELSE {GRAIN} END)"
"""Seconds of a point on a chart."""


@dataclass(frozen=True)
class Source:
    """What is read: `gold.orders` stands for its tables `_1m`, `_1h` and `_1d`; conditions hold for each row."""

    base: str
    columns: tuple[str, ...]
    conditions: tuple[str, ...] = ()

    def select(self, grain: str, *more: str, time: str = "window_start") -> str:
        columns = ", ".join((time, *self.columns))
        return f"SELECT {columns} FROM {self.base}_{grain} WHERE {' AND '.join((*more, *self.conditions))}"


def union(selects: Iterable[str], name: str = "r") -> str:
    return "(\n  " + "\n  UNION ALL ".join(selects) + f"\n) AS {name}"


def by_grain(source: Source, before: bool = False) -> str:
    """Rows of the whole points of the range, `window_start` being their point's. With `before`, of the range before it."""
    guards = {
        "1m": f"{LENGTH} <= {MINUTES_UP_TO}",
        "1h": f"{LENGTH} > {MINUTES_UP_TO} AND {LENGTH} <= {HOURS_UP_TO}",
        "1d": f"{LENGTH} > {HOURS_UP_TO}",
    }
    start, end = (f"(2 * {FROM} - {TO})", FROM) if before else (FROM, TO)
    when = inside(ceiling(start, POINT), end)
    times = {"1m": f"{bucket()} AS window_start"}
    return union(source.select(grain, guard, when, time=times.get(grain, "window_start")) for grain, guard in guards.items())


def bucket(column: str = "window_start") -> str:
    """The start of the point that a row belongs to."""
    return f"date_bin(make_interval(secs => {POINT}), {column}, to_timestamp(0))"


def to_the_minute(source: Source, before: bool = False, grain: str = str(DAY)) -> str:
    """Rows of every minute that starts in the range, from the fewest rows.

    `grain` bounds the coarsest table: with GRAIN the rows can be grouped into the points of a chart.
    """
    first, last = (f"(2 * {FROM} - {TO})", FROM) if before else (FROM, TO)
    hours, days = ceiling(first, HOUR), ceiling(first, DAY)
    hours_end, days_end = floor(f"({last} - {SETTLED_SECONDS})", HOUR), floor(f"({last} - {SETTLED_SECONDS})", DAY)
    tail = f"greatest({hours_end}, {hours})"
    late_hours = f"greatest({days_end}, {days})"
    parts = (
        ("1m", f"{grain} = {MINUTE}", first, last),
        ("1m", f"{grain} > {MINUTE}", first, f"least({hours}, {last})"),
        ("1m", f"{grain} > {MINUTE}", tail, last),
        ("1h", f"{grain} = {HOUR}", hours, tail),
        ("1h", f"{grain} = {DAY}", hours, f"least({days}, {tail})"),
        ("1h", f"{grain} = {DAY}", late_hours, tail),
        ("1d", f"{grain} = {DAY}", days, days_end),
    )
    # a guard that is plainly false for this grain needs no branch
    possible = [p for p in parts if not grain.isdigit() or holds(p[1])]
    return union(source.select(g, guard, inside(start, end)) for g, guard, start, end in possible)


def holds(guard: str) -> bool:
    left, sign, right = guard.split()
    return int(left) == int(right) if sign == "=" else int(left) > int(right)


def inside(start: str, end: str) -> str:
    """Half-open. Units: seconds since 1970."""
    return f"window_start >= to_timestamp({start}) AND window_start < to_timestamp({end})"


def floor(seconds: str, width: int | str) -> str:
    return f"({seconds} / {width} * {width})"


def ceiling(seconds: str, width: int | str) -> str:
    return f"(({seconds} + {width} - 1) / {width} * {width})"
