"""From the metric catalogue to panels: a metric is placed on a board in one line, e.g.
`over_time("orders_1m.units")`.

Title, help, unit and formula are those of `flows/domain/metrics.py`; the filters are the variables
that the table has columns for, and the description says which of the others do not apply.
"""

from __future__ import annotations

from dataclasses import replace

from flows.domain import metrics
from flows.domain.families import CATALOGUE
from flows.domain.metrics import Measure, MetricTable
from grafana import colours
from grafana.currency import major
from grafana.dashboard import VARIABLES
from grafana.panels import Chart, Panel, Style, Unit, Words
from grafana.queries import Sql, series
from grafana.ranges import Source, by_grain

TABLES = {metric.name: metric for metric in CATALOGUE}
UNITS = {
    metrics.Unit.COUNT: Unit.WHOLE,
    metrics.Unit.PIECES: Unit.WHOLE,
    metrics.Unit.MINOR: Unit.MONEY,
}


def find(path: str) -> tuple[MetricTable, Measure]:
    """`orders_1m.units`. Errors: KeyError when the catalogue has no such measure."""
    table, measure = path.split(".")
    return TABLES[table], {m.name: m for m in TABLES[table].measures}[measure]


def base(table: MetricTable) -> str:
    return f"gold.{table.name.removesuffix('_1m')}"


def source(table: MetricTable, *columns: str, more: tuple[str, ...] = ()) -> Source:
    """The table's rows that the board's variables let through."""
    dimensions = {d.name for d in table.by}
    filters = tuple(v.condition for v in VARIABLES.values() if v.column in dimensions)
    return Source(base(table), columns, (*filters, *more))


def summed(measure: Measure) -> str:
    """SQL: the measure over rows, in the unit of the panel. Errors: ValueError for distinct counts,
    which do not add up.
    """
    if measure.distinct is not None:
        raise ValueError(f"{measure.name}: different values do not add up over time")
    total = f"sum({measure.name})"
    return major(total) if measure.unit is metrics.Unit.MINOR else total


def applies(table: MetricTable, offered: tuple[str, ...] = tuple(VARIABLES)) -> str:
    """Which of the board's variables this table cannot follow, as the end of a sentence."""
    dimensions = {d.name for d in table.by}
    deaf = [VARIABLES[v].label.lower() for v in offered if VARIABLES[v].column not in dimensions]
    return f" (not by {', '.join(deaf)})" if deaf else ""


def over_time(
    path: str,
    healthy: str = "a line like that of the days before",
    by: str | None = None,
    top: int = 8,
) -> Panel:
    """A measure over time, in bars; with `by` stacked by a dimension, its biggest `top` values."""
    table, measure = find(path)
    columns = (measure.name,) if by is None else (measure.name, by)
    rows = by_grain(source(table, *columns))
    words = Words(
        measure.title,
        f"{measure.help.rstrip('.')}, bars of a minute to a day by the time range",
        healthy,
    )
    amounts = UNITS[measure.unit] is Unit.MONEY
    if by is None:
        text = (
            f'SELECT window_start AS time, {summed(measure)} AS "{measure.title}"\nFROM'
            f" {rows}\nGROUP BY 1 ORDER BY 1"
        )
        query = series(text, measure.title)
        styles: tuple[Style, ...] = (
            Style(measure.title, colours.KNOWN.get(measure.title, colours.BLUE)),
        )
    else:
        words = replace(words, title=f"{measure.title} by {by.removesuffix('_id')}")
        text = (
            f"WITH r AS (SELECT * FROM {rows}),\ntop AS (SELECT {by} FROM r GROUP BY 1 ORDER BY"
            f" sum({measure.name}) DESC, 1 LIMIT {top})\nSELECT window_start AS time, {by} AS"
            f" metric, {summed(measure)} AS value\nFROM r JOIN top USING ({by}) GROUP BY 1, 2 ORDER"
            " BY 1, 2"
        )
        query, styles = series(text, "value", by="metric"), ()
    return Panel(
        words,
        Chart(bars=True, stacked=by is not None),
        (query,),
        UNITS[measure.unit],
        2 if amounts else 0,
        None,
        styles,
        money=(".*",) if amounts else (),
    )


def trend(table: MetricTable, key: str, measure: str, top: int) -> Sql:
    """A line for each of the biggest values of a column, for the sparklines of a table: zero where
    nothing was.
    """
    value = summed({m.name: m for m in table.measures}[measure])
    return series(
        f"WITH r AS (SELECT * FROM {by_grain(source(table, key, measure))}),\ntop AS (SELECT {key}"
        f" FROM r GROUP BY 1 ORDER BY sum({measure}) DESC, 1 LIMIT {top})\nSELECT window_start AS"
        f" time, {key} AS product, coalesce({value}, 0) AS value\nFROM (SELECT DISTINCT"
        " window_start FROM r) AS points CROSS JOIN top LEFT JOIN r USING (window_start,"
        f" {key})\nGROUP BY 1, 2 ORDER BY 1, 2",
        "value",
        by="product",
        ref="trend",
    )
