"""The numbers of a first row: the value of the range with its line, and how it changed against the
range before.

The last point of the line is the value of the whole range (a rate of sums, not a mean of rates); a
sum is the sum of its points. The change compares two spans of the same length, to the minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.domain.metrics import MetricTable
from grafana import colours
from grafana.catalogue import source
from grafana.panels import Panel, Stat, Style, Unit, Words
from grafana.queries import numbers, series
from grafana.ranges import BEFORE, TO, bucket, in_points, to_the_minute
from grafana.thresholds import Threshold

CHANGE = "against the same span before"


@dataclass(frozen=True)
class Headline:
    """`value` is SQL over sums of `columns`; a `rate` is one that cannot be summed. The threshold
    is that of `on`.
    """

    words: Words
    table: MetricTable
    columns: tuple[str, ...]
    value: str
    unit: Unit
    decimals: int
    rate: bool = False
    where: tuple[str, ...] = ()
    threshold: Threshold | None = None
    change: Threshold | None = None
    colour: str = colours.GREEN
    link: tuple[str, str] | None = None


def headline(asked: Headline) -> Panel:
    name = asked.words.title
    rows = in_points(source(asked.table, *asked.columns, more=asked.where))
    line = f'SELECT {bucket()} AS time, {asked.value} AS "{name}"\nFROM r GROUP BY 1'
    if asked.rate:
        line += f"\nUNION ALL SELECT to_timestamp({TO}), {asked.value} FROM r HAVING count(*) > 0"
    text = f"WITH r AS (SELECT * FROM {rows})\n{line}\nORDER BY 1"
    return Panel(
        asked.words,
        Stat("lastNotNull" if asked.rate else "sum"),
        (series(text, name), numbers(change(asked), CHANGE, ref="B")),
        asked.unit,
        asked.decimals,
        asked.threshold,
        (
            Style(name, None if asked.threshold else asked.colour, neutral=asked.threshold is None),
            Style(
                CHANGE,
                unit=Unit.RATIO,
                decimals=1,
                threshold=asked.change,
                neutral=asked.change is None,
            ),
        ),
        link=asked.link,
        money=(name,) if asked.unit is Unit.MONEY else (),
    )


def change(asked: Headline) -> str:
    """SQL: how the value differs from that of the span before, as a share of it; NULL without a
    span before.
    """
    now = to_the_minute(source(asked.table, *asked.columns, more=asked.where))
    before = to_the_minute(source(asked.table, *asked.columns, more=asked.where), BEFORE)
    return (
        f'SELECT (n.value - b.value)::double precision / nullif(abs(b.value), 0) AS "{CHANGE}"\n'
        f"FROM (SELECT {asked.value} AS value FROM {now}) AS n,\n"
        f"  (SELECT {asked.value} AS value FROM {before}) AS b"
    )
