"""Functions that boards read, which choose the table by the length of a range.

`gold.orders_between(since, until)` gives the rows of `[since, until)`, exact to the minute, from
the coarsest tables that its points allow: thirty days read days, and minutes only at their ends.
Each row has the `time` of its point. `ops.points(since, until)` lists the points themselves, so
that a minute without rows can be drawn as what it is.

With `back`, a number of days, the rows are those of as many days before (or of a multiple, where
the range is longer), moved to the range's own times: yesterday lies under today.

PostgreSQL inlines the functions, and drops the branches of other lengths when it plans, because the
range is constant (test_only_the_grain_of_the_range_is_read).

Units: seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
from psycopg import sql

from flows.connectors.postgres import identifier
from flows.domain.families import CATALOGUE
from flows.domain.rollups import stem

MINUTE, HOUR, DAY = 60, 3_600, 86_400
# the longest range that is read from minutes (72 points at most) and from hours (192)
MINUTES_UP_TO, HOURS_UP_TO = 6 * HOUR, 8 * DAY
# a longer range of minutes has points of five minutes: 72 bars fit a panel, 360 do not
FINE_UP_TO, COARSE_MINUTES = 2 * HOUR, 5 * MINUTE
# an hour that ended this long ago is in the roll-ups; before that its minutes are read
SETTLED_SECONDS = 600

LENGTH = "(until - since)"
POINT = (
    f"(CASE WHEN {LENGTH} <= {FINE_UP_TO} THEN {MINUTE}"
    f" WHEN {LENGTH} <= {MINUTES_UP_TO} THEN {COARSE_MINUTES}"
    f" WHEN {LENGTH} <= {HOURS_UP_TO} THEN {HOUR} ELSE {DAY} END)"
)
"""Seconds of a point of the range."""
SPANS = f"({LENGTH} + back * {DAY} - 1) / (back * {DAY})"
BACK = f"(CASE WHEN back = 0 THEN 0 ELSE {SPANS} END * back * {DAY})"
"""Seconds by which the rows lie before the range."""

BASES = (
    *(f"gold.{stem(metric.name)}" for metric in CATALOGUE),
    "quality.outcomes",
    "quality.rules",
)
"""What is read by ranges: `gold.orders` stands for `gold.orders_1m`, `_1h` and `_1d`."""
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'window_start'
ORDER BY attnum
"""


def create_ranges(db: psycopg.Connection) -> None:
    """Create or replace the functions of every source, and that of the points."""
    replace_function(db, "ops.points", {}, POINTS, ", whole boolean DEFAULT true")
    for base in BASES:
        # days have what all grains have: distinct visitors do not add up
        columns: dict[str, str] = dict(db.execute(COLUMNS, (f"{base}_1d",)).fetchall())
        body = between(base, tuple(columns))
        replace_function(db, f"{base}_between", columns, body, ", back bigint DEFAULT 0")


POINTS = f"""
SELECT point AS "time"
FROM generate_series(
  to_timestamp((since + CASE WHEN whole THEN {POINT} - 1 ELSE 0 END) / {POINT} * {POINT}),
  to_timestamp(until - 1), make_interval(secs => {POINT})) AS point
"""


def between(base: str, columns: tuple[str, ...]) -> str:
    """Write the body of a function: one SELECT per table and part of the range."""
    time = (
        f"date_bin(make_interval(secs => {POINT}), window_start, to_timestamp(0))"
        f" + make_interval(secs => {BACK})"
    )
    return "\nUNION ALL\n".join(
        f"SELECT {', '.join((time, *columns))}\nFROM {base}_{grain}\nWHERE {condition}"
        f" AND window_start >= to_timestamp({start}) AND window_start < to_timestamp({end})"
        for grain, condition, start, end in parts()
    )


def parts() -> Iterator[tuple[str, str, str, str]]:
    """Cut a range at whole hours and days: table, lengths for which it is read, start, and end.

    A part may be empty, and then ends before it starts.
    """
    since, until = f"(since - {BACK})", f"(until - {BACK})"
    settled = f"({until} - {SETTLED_SECONDS})"
    first_hour, first_day = _ceiling(since, HOUR), _ceiling(since, DAY)
    last_hour, last_day = f"greatest({_floor(settled, HOUR)}, {first_hour})", _floor(settled, DAY)
    short, long = f"{LENGTH} <= {MINUTES_UP_TO}", f"{LENGTH} > {HOURS_UP_TO}"
    yield "1m", short, since, until
    yield "1m", f"NOT {short}", since, f"least({first_hour}, {until})"
    yield "1m", f"NOT {short}", last_hour, until
    yield "1h", f"NOT {short} AND NOT {long}", first_hour, last_hour
    yield "1h", long, first_hour, f"least({first_day}, {last_hour})"
    yield "1h", long, f"greatest({last_day}, {first_day})", last_hour
    yield "1d", long, first_day, last_day


def _floor(seconds: str, width: int) -> str:
    return f"({seconds} / {width} * {width})"


def _ceiling(seconds: str, width: int) -> str:
    return f"(({seconds} + {width} - 1) / {width} * {width})"


def replace_function(
    db: psycopg.Connection, name: str, columns: Mapping[str, str], body: str, more: str
) -> None:
    """Create or replace a function of a range, also where its columns changed."""
    returned = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in {"time": "timestamptz", **columns}.items()
    )
    arguments = sql.SQL(f"since bigint, until bigint{more}")
    create = sql.SQL(
        "CREATE OR REPLACE FUNCTION {}({}) RETURNS TABLE ({})"
        " LANGUAGE sql STABLE PARALLEL SAFE AS {}"
    ).format(identifier(name), arguments, returned, sql.Literal(body))
    try:
        with db.transaction():
            db.execute(create)
    except psycopg.errors.InvalidFunctionDefinition:
        # PostgreSQL replaces a function only while it returns the same columns
        db.execute(sql.SQL("DROP FUNCTION {}").format(identifier(name)))
        db.execute(create)
