"""SQL that chooses the table by the dashboard's time range: thirty days read days, not minutes.

Two shapes. `by_grain` reads one table, of minutes, hours or days, in the points of a chart:
PostgreSQL drops the other two when it plans, because the range is a constant
(test_only_the_grain_of_the_range_is_read). `to_the_minute` covers the range exactly: whole days and
hours from the roll-ups, the ends from minutes; totals and rankings use it, so that they can be
compared.

Everything is made of Grafana's `$__unixEpochFrom()` and `$__unixEpochTo()`, whole seconds, and of
immutable functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FROM, TO = "$__unixEpochFrom()::bigint", "$__unixEpochTo()::bigint"  # wide enough for sums of two
MINUTE, HOUR, DAY = 60, 3_600, 86_400
# the longest range that is read from minutes (72 points at most) and from hours (192)
MINUTES_UP_TO, HOURS_UP_TO = 6 * HOUR, 8 * DAY
# a longer range of minutes has points of five minutes: 72 bars fit a panel, 360 do not
FINE_UP_TO, COARSE_MINUTES = 2 * HOUR, 5 * MINUTE
# an hour that ended this long ago is in the roll-ups; before that its minutes are read
SETTLED_SECONDS = 600

LENGTH = f"({TO} - {FROM})"
GRAIN = (
    f"(CASE WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {MINUTE}"
    f" WHEN {LENGTH} <= {HOURS_UP_TO} THEN {HOUR} ELSE {DAY} END)"
)
"""Seconds of a row of the table that a chart reads."""
POINT = (
    f"(CASE WHEN {LENGTH} <= {FINE_UP_TO} THEN {MINUTE}"
    f" WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {COARSE_MINUTES} ELSE {GRAIN} END)"
)
"""Seconds of a point on a chart."""


@dataclass(frozen=True)
class Source:
    """What is read: columns of the rows for which all conditions hold.

    `base` stands for its tables of all grains: `gold.orders` for `gold.orders_1m`, `_1h`, `_1d`.
    """

    base: str
    columns: tuple[str, ...]
    conditions: tuple[str, ...] = ()

    def select(self, grain: str, *more: str, time: str = "window_start") -> str:
        """Write the SELECT on the table of one grain; `more` are further conditions."""
        columns = ", ".join((time, *self.columns))
        conditions = " AND ".join((*more, *self.conditions))
        return f"SELECT {columns} FROM {self.base}_{grain} WHERE {conditions}"


def _union(selects: Iterable[str]) -> str:
    return "(\n  " + "\n  UNION ALL ".join(selects) + "\n) AS r"


GUARDS = {
    "1m": f"{LENGTH} <= {MINUTES_UP_TO}",
    "1h": f"{LENGTH} > {MINUTES_UP_TO} AND {LENGTH} <= {HOURS_UP_TO}",
    "1d": f"{LENGTH} > {HOURS_UP_TO}",
}
"""SQL: the range is one that is read from these tables."""
BEFORE = (f"(2 * {FROM} - {TO})", FROM)
"""The range of the same length that ends where the board's begins."""


def by_grain(source: Source, span: tuple[str, str] = (FROM, TO)) -> str:
    """Read rows of the whole points of the range, `window_start` being that of their point."""
    when = _inside(_ceiling(span[0], POINT), span[1])
    times = {"1m": f"{bucket()} AS window_start"}
    return _union(
        source.select(g, guard, when, time=times.get(g, "window_start"))
        for g, guard in GUARDS.items()
    )


def bucket(column: str = "window_start") -> str:
    """Write the SQL of the start of the point that a row belongs to."""
    return f"date_bin(make_interval(secs => {POINT}), {column}, to_timestamp(0))"


def to_the_minute(source: Source, span: tuple[str, str] = (FROM, TO)) -> str:
    """Read every minute that starts in the range, from the fewest rows."""
    cut = _cut(*span)
    return _union(
        source.select(grain, _inside(start, end))
        for grain, start, end in (*cut.minutes, *cut.hours, *cut.days)
    )


def in_points(source: Source) -> str:
    """Read the rows of `to_the_minute` from tables no coarser than the points of a chart.

    Shape: rows can be grouped by `bucket()`.
    """
    cut = _cut(FROM, TO)
    (head, tail), longer = cut.minutes, f"{LENGTH} > {MINUTES_UP_TO}"
    parts = (
        ("1m", GUARDS["1m"], FROM, TO),
        (head[0], longer, *head[1:]),
        (tail[0], longer, *tail[1:]),
        ("1h", GUARDS["1h"], head[2], tail[1]),
        *((g, GUARDS["1d"], start, end) for g, start, end in (*cut.hours, *cut.days)),
    )
    return _union(
        source.select(grain, guard, _inside(start, end)) for grain, guard, start, end in parts
    )


def roughly(source: Source) -> str:
    """Read what there is in the range, to list it: hours or days that touch it, and last minutes.

    A list needs no sums, so it can read little; what came just now is in no roll-up yet.
    """
    day = f"{LENGTH} <= {DAY}"
    return _union(
        (
            source.select("1m", _inside(f"greatest({FROM}, {TO} - {SETTLED_SECONDS})", TO)),
            source.select("1h", day, _inside(_floor(FROM, HOUR), TO)),
            source.select("1d", f"NOT {day}", _inside(_floor(FROM, DAY), TO)),
        )
    )


@dataclass(frozen=True)
class _Cut:
    """A range cut at whole hours and days: table, start and end of each part.

    A part may be empty, and then ends before it starts.
    """

    minutes: tuple[tuple[str, str, str], tuple[str, str, str]]
    hours: tuple[tuple[str, str, str], ...]
    days: tuple[tuple[str, str, str], ...]


def _cut(first: str, last: str) -> _Cut:
    settled = f"({last} - {SETTLED_SECONDS})"
    first_hour, first_day = _ceiling(first, HOUR), _ceiling(first, DAY)
    last_hour, last_day = f"greatest({_floor(settled, HOUR)}, {first_hour})", _floor(settled, DAY)
    return _Cut(
        (("1m", first, f"least({first_hour}, {last})"), ("1m", last_hour, last)),
        (
            ("1h", first_hour, f"least({first_day}, {last_hour})"),
            ("1h", f"greatest({last_day}, {first_day})", last_hour),
        ),
        (("1d", first_day, last_day),),
    )


def _inside(start: str, end: str) -> str:
    # half-open, in seconds since 1970
    return f"window_start >= to_timestamp({start}) AND window_start < to_timestamp({end})"


def _floor(seconds: str, width: int | str) -> str:
    return f"({seconds} / {width} * {width})"


def _ceiling(seconds: str, width: int | str) -> str:
    return f"(({seconds} + {width} - 1) / {width} * {width})"
