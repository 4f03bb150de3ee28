"""The numbers of a first row: the range's value with its line, and below it how it has changed.

The last point of a rate's line is the value of the whole range (a rate of sums, not a mean of
rates); a sum is the sum of its points. Changes are against the same time of the day before and of
the week before, never against the hours before: shops sleep at night and rest on Sundays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.domain.metrics import MetricTable
from grafana import colours
from grafana.catalogue import source
from grafana.panels import Panel, Stat, Style, Unit, Words
from grafana.queries import numbers, series
from grafana.ranges import LAST_WEEK, YESTERDAY, Source
from grafana.thresholds import Threshold

CHANGES = {
    YESTERDAY: ("vs day", "the same time of the day before"),
    LAST_WEEK: ("vs week", "the same time of the week before"),
}


@dataclass(frozen=True)
class Headline:
    """A number of the catalogue's rows and how it is judged.

    `value` is SQL over sums of `columns`; with `rate` it is one that cannot be summed. The panel is
    red beyond `threshold`, its changes beyond `change`. `short` is its name where there is no room.
    """

    words: Words
    table: MetricTable
    columns: tuple[str, ...]
    value: str
    unit: Unit
    decimals: int
    short: str
    rate: bool = False
    where: tuple[str, ...] = ()
    threshold: Threshold | None = None
    change: Threshold | None = None
    colour: str = colours.GREEN
    link: tuple[str, str] | None = None

    @property
    def rows(self) -> Source:
        """The rows that it is made of."""
        return source(self.table, *self.columns, more=self.where)


def headline(spec: Headline) -> Panel:
    """Make the panel of the number itself."""
    name = spec.words.title
    if spec.rate:
        text = spec.rows.rate_over_time(spec.value, name)
    else:
        text = spec.rows.over_time(f'coalesce({spec.value}, 0) AS "{name}"', whole=False)
    return Panel(
        spec.words,
        Stat("lastNotNull" if spec.rate else "sum"),
        (series(text, name),),
        spec.unit,
        spec.decimals,
        spec.threshold,
        (Style(name, None if spec.threshold else spec.colour, neutral=spec.threshold is None),),
        link=spec.link,
        amounts=(name,) if spec.unit is Unit.CURRENCY else (),
    )


def changes(*specs: Headline, width: int = 2) -> tuple[tuple[int, Panel], ...]:
    """Make the thin panels below the numbers, two for each."""
    return tuple((width, _change(spec, back)) for spec in specs for back in CHANGES)


def _change(spec: Headline, back: int) -> Panel:
    title, other = CHANGES[back]
    column = f"{spec.short} {title}"
    return Panel(
        replace(
            spec.words,
            title=column,
            about=f"{spec.words.title} of the range against {other}",
            healthy="" if spec.change is None else f"above {spec.change.watch:.0%}",
            nothing="nothing before",
        ),
        Stat("lastNotNull", sparkline=False),
        (
            numbers(
                f"WITH now AS (SELECT {spec.value} AS value FROM {spec.rows.rows()}),\n"
                f"before AS (SELECT {spec.value} AS value FROM {spec.rows.rows(back)})\n"
                "SELECT (now.value - before.value)::double precision / abs(before.value)"
                f' AS "{column}"\n'
                "FROM now, before WHERE now.value IS NOT NULL AND before.value <> 0",
                column,
            ),
        ),
        Unit.RATIO,
        1,
        spec.change,
        () if spec.change else (Style(column, colours.GREY, neutral=True),),
    )
