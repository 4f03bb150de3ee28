"""SQL that chooses the table by the dashboard's time range, so that a board of thirty days reads
days and not minutes.

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
MINUTES_UP_TO, HOURS_UP_TO = (
    6 * HOUR,
    8 * DAY,
)  # the longest range that is read from minutes, and from hours
FINE_UP_TO, COARSE_MINUTES = (
    2 * HOUR,
    5 * MINUTE,
)  # a longer range of minutes has points of five: bars need room
SETTLED_SECONDS = (
    600  # an hour that ended this long ago is in the roll-ups; before that its minutes are read
)

LENGTH = f"({TO} - {FROM})"
GRAIN = (
    f"(CASE WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {MINUTE} WHEN {LENGTH} <= {HOURS_UP_TO} THEN"
    f" {HOUR} ELSE {DAY} END)"
)
"""Seconds of a row of the table that a chart reads."""
POINT = (
    f"(CASE WHEN {LENGTH} <= {FINE_UP_TO} THEN {MINUTE} WHEN {LENGTH} <= {MINUTES_UP_TO} THEN"
    f" {COARSE_MINUTES} ELSE {GRAIN} END)"
)
"""Seconds of a point on a chart."""


@dataclass(frozen=True)
class Source:
    """What is read: `gold.orders` stands for its tables `_1m`, `_1h` and `_1d`; conditions hold for
    each row.
    """

    base: str
    columns: tuple[str, ...]
    conditions: tuple[str, ...] = ()

    def select(self, grain: str, *more: str, time: str = "window_start") -> str:
        columns = ", ".join((time, *self.columns))
        return (
            f"SELECT {columns} FROM {self.base}_{grain} WHERE"
            f" {' AND '.join((*more, *self.conditions))}"
        )


def union(selects: Iterable[str], name: str = "r") -> str:
    return "(\n  " + "\n  UNION ALL ".join(selects) + f"\n) AS {name}"


GUARDS = {
    "1m": f"{LENGTH} <= {MINUTES_UP_TO}",
    "1h": f"{LENGTH} > {MINUTES_UP_TO} AND {LENGTH} <= {HOURS_UP_TO}",
    "1d": f"{LENGTH} > {HOURS_UP_TO}",
}
"""SQL: the range is one that is read from these tables."""
BEFORE = (f"(2 * {FROM} - {TO})", FROM)
"""The range of the same length that ends where the board's begins."""


def by_grain(source: Source, span: tuple[str, str] = (FROM, TO)) -> str:
    """Rows of the whole points of the range, `window_start` being their point's."""
    when = inside(ceiling(span[0], POINT), span[1])
    times = {"1m": f"{bucket()} AS window_start"}
    return union(
        source.select(g, guard, when, time=times.get(g, "window_start"))
        for g, guard in GUARDS.items()
    )


def bucket(column: str = "window_start") -> str:
    """The start of the point that a row belongs to."""
    return f"date_bin(make_interval(secs => {POINT}), {column}, to_timestamp(0))"


def to_the_minute(source: Source, span: tuple[str, str] = (FROM, TO)) -> str:
    """Rows of every minute that starts in the range, from the fewest rows."""
    cut = Cut.of(*span)
    return union(
        source.select(grain, inside(start, end))
        for grain, start, end in (*cut.minutes, *cut.hours, *cut.days)
    )


def in_points(source: Source) -> str:
    """The same rows, from tables no coarser than the points of a chart, so that they can be grouped
    by `bucket()`.
    """
    cut = Cut.of(FROM, TO)
    (head, tail), longer = cut.minutes, f"{LENGTH} > {MINUTES_UP_TO}"
    parts = (
        ("1m", GUARDS["1m"], FROM, TO),
        (head[0], longer, *head[1:]),
        (tail[0], longer, *tail[1:]),
        ("1h", GUARDS["1h"], head[2], tail[1]),
        *((g, GUARDS["1d"], start, end) for g, start, end in (*cut.hours, *cut.days)),
    )
    return union(
        source.select(grain, guard, inside(start, end)) for grain, guard, start, end in parts
    )


def roughly(source: Source) -> str:
    """Rows of the hours, or for more than a day the days, that touch the range, and of its last
    minutes: to list what there is.

    A list needs no sums, so it can read little; what came just now is in no roll-up yet.
    """
    day = f"{LENGTH} <= {DAY}"
    return union(
        (
            source.select("1m", inside(f"greatest({FROM}, {TO} - {SETTLED_SECONDS})", TO)),
            source.select("1h", day, inside(floor(FROM, HOUR), TO)),
            source.select("1d", f"NOT {day}", inside(floor(FROM, DAY), TO)),
        )
    )


@dataclass(frozen=True)
class Cut:
    """A range cut at whole hours and days: table, start and end of each part. A part may be empty,
    and then ends before it starts.
    """

    minutes: tuple[tuple[str, str, str], tuple[str, str, str]]
    hours: tuple[tuple[str, str, str], ...]
    days: tuple[tuple[str, str, str], ...]

    @staticmethod
    def of(first: str, last: str) -> Cut:
        settled = f"({last} - {SETTLED_SECONDS})"
        first_hour, first_day = ceiling(first, HOUR), ceiling(first, DAY)
        last_hour, last_day = f"greatest({floor(settled, HOUR)}, {first_hour})", floor(settled, DAY)
        return Cut(
            (("1m", first, f"least({first_hour}, {last})"), ("1m", last_hour, last)),
            (
                ("1h", first_hour, f"least({first_day}, {last_hour})"),
                ("1h", f"greatest({last_day}, {first_day})", last_hour),
            ),
            (("1d", first_day, last_day),),
        )


def inside(start: str, end: str) -> str:
    """Half-open. Units: seconds since 1970."""
    return f"window_start >= to_timestamp({start}) AND window_start < to_timestamp({end})"


def floor(seconds: str, width: int | str) -> str:
    return f"({seconds} / {width} * {width})"


def ceiling(seconds: str, width: int | str) -> str:
    return f"(({seconds} + {width} - 1) / {width} * {width})"
