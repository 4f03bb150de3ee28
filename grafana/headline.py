"""The numbers of a first row: the value of the range with its line, and how it has changed.

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
    """A number of the catalogue's rows and how it is judged.

    `value` is SQL over sums of `columns`; with `rate` it is one that cannot be summed. The panel is
    red beyond `threshold`, its change against the span before beyond `change`.
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


def headline(spec: Headline) -> Panel:
    """Make the panel of a headline."""
    name = spec.words.title
    rows = in_points(source(spec.table, *spec.columns, more=spec.where))
    line = f'SELECT {bucket()} AS time, {spec.value} AS "{name}"\nFROM r GROUP BY 1'
    if spec.rate:
        line += f"\nUNION ALL SELECT to_timestamp({TO}), {spec.value} FROM r HAVING count(*) > 0"
    text = f"WITH r AS (SELECT * FROM {rows})\n{line}\nORDER BY 1"
    return Panel(
        spec.words,
        Stat("lastNotNull" if spec.rate else "sum"),
        (series(text, name), numbers(_change(spec), CHANGE, ref="B")),
        spec.unit,
        spec.decimals,
        spec.threshold,
        (
            Style(name, None if spec.threshold else spec.colour, neutral=spec.threshold is None),
            Style(
                CHANGE,
                unit=Unit.RATIO,
                decimals=1,
                threshold=spec.change,
                neutral=spec.change is None,
            ),
        ),
        link=spec.link,
        amounts=(name,) if spec.unit is Unit.CURRENCY else (),
    )


def _change(spec: Headline) -> str:
    # as a share of the value of the span before; NULL where that had no rows
    now = to_the_minute(source(spec.table, *spec.columns, more=spec.where))
    before = to_the_minute(source(spec.table, *spec.columns, more=spec.where), BEFORE)
    return (
        f'SELECT (n.value - b.value)::double precision / nullif(abs(b.value), 0) AS "{CHANGE}"\n'
        f"FROM (SELECT {spec.value} AS value FROM {now}) AS n,\n"
        f"  (SELECT {spec.value} AS value FROM {before}) AS b"
    )
