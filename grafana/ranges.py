"""What boards read of the dashboard's range: rows, and the points of its charts.

The functions of `database/ranges.py` choose the table by the length of the range.
"""

from __future__ import annotations

from dataclasses import dataclass

FROM, TO = "$__unixEpochFrom()", "$__unixEpochTo()"
RANGE = f"{FROM}, {TO}"
YESTERDAY, LAST_WEEK = 1, 7
"""Days by which rows lie before the range; a longer range is as many of these before itself."""


@dataclass(frozen=True)
class Source:
    """What is read: columns of the rows for which all conditions hold.

    `base` stands for its tables of all grains: `gold.orders` for `gold.orders_1m`, `_1h`, `_1d`.
    """

    base: str
    columns: tuple[str, ...]
    conditions: tuple[str, ...] = ()

    def select(self, back: int = 0) -> str:
        """Write the SELECT; its rows have the `time` of their point, and add up to the minute."""
        columns = ", ".join(("time", *self.columns))
        days = f", {back}" if back else ""
        where = "\n    AND ".join(self.conditions)
        text = f"SELECT {columns} FROM {self.base}_between({RANGE}{days})"
        return f"{text}\n  WHERE {where}" if where else text

    def rows(self, back: int = 0) -> str:
        """Write it as what stands behind a FROM."""
        return f"(\n  {self.select(back)}\n) AS r"

    def over_time(self, *values: str, back: int = 0, whole: bool = True) -> str:
        """Query a row per point, also where nothing happened; none where the range has no rows.

        `values` are SQL over the rows `r`. A point that began before the range is left out, unless
        it is asked for (not `whole`).
        """
        return (
            f"WITH r AS ({self.select(back)})\n"
            f"SELECT time, {', '.join(values)}\n"
            f"FROM {points(whole)} LEFT JOIN r USING (time)\n"
            "WHERE EXISTS (SELECT FROM r)\nGROUP BY 1 ORDER BY 1"
        )

    def rate_over_time(self, value: str, name: str) -> str:
        """Query a share by point; its last point is that of the whole range, a share of sums."""
        line = self.over_time(f'\n  {value} AS "{name}"', whole=False)
        return (
            line.removesuffix(" ORDER BY 1")
            + f"\nUNION ALL SELECT to_timestamp({TO}), {value} FROM r HAVING count(*) > 0\n"
            "ORDER BY 1"
        )

    def by_value(
        self, column: str, value: str, most: str, top: int = 100, label: str = "metric"
    ) -> str:
        """Query a series for each of the `top` values of a column, those with the most of `most`.

        `value` is SQL over the rows `r` of a point and a value of the column.
        """
        return (
            f"WITH r AS ({self.select()}),\n"
            f"top AS (SELECT {column} FROM r GROUP BY 1 HAVING {most} > 0"
            f" ORDER BY {most} DESC, 1 LIMIT {top})\n"
            f"SELECT time, {column} AS {label}, {value} AS value\n"
            f"FROM {points()} CROSS JOIN top LEFT JOIN r USING (time, {column})\n"
            "GROUP BY 1, 2 ORDER BY 1, 2"
        )


def points(whole: bool = True) -> str:
    """Name the points of the range, as what stands behind a FROM."""
    return f"ops.points({RANGE}{'' if whole else ', false'})"
