"""From the metric catalogue to panels: `over_time("orders_1m.units")` places a metric on a board.

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
    metrics.Unit.MINOR: Unit.CURRENCY,
}


def find(path: str) -> tuple[MetricTable, Measure]:
    """Look up a measure by its path, `orders_1m.units`.

    Errors: KeyError when the catalogue has no such measure.
    """
    table, measure = path.split(".")
    return TABLES[table], {m.name: m for m in TABLES[table].measures}[measure]


def _base(table: MetricTable) -> str:
    return f"gold.{table.name.removesuffix('_1m')}"


def source(table: MetricTable, *columns: str, more: tuple[str, ...] = ()) -> Source:
    """Read the table's rows that the board's variables let through."""
    dimensions = {d.name for d in table.by}
    filters = tuple(v.condition for v in VARIABLES.values() if v.column in dimensions)
    return Source(_base(table), columns, (*filters, *more))


def summed(measure: Measure) -> str:
    """Write the SQL of a measure summed over rows, in the unit of its panel.

    Errors: ValueError for distinct counts, which do not add up.
    """
    if measure.distinct is not None:
        raise ValueError(f"{measure.name}: different values do not add up over time")
    total = f"sum({measure.name})"
    return major(total) if measure.unit is metrics.Unit.MINOR else total


def applies(table: MetricTable, offered: tuple[str, ...] = tuple(VARIABLES)) -> str:
    """Name the board's variables that this table has no column for, as the end of a sentence."""
    dimensions = {d.name for d in table.by}
    missing = [VARIABLES[v].label.lower() for v in offered if VARIABLES[v].column not in dimensions]
    return f" (not by {', '.join(missing)})" if missing else ""


def over_time(
    path: str,
    healthy: str = "a line like that of the days before",
    by: str | None = None,
    top: int = 8,
) -> Panel:
    """Chart a measure over time; with `by`, stacked by the `top` biggest values of a dimension."""
    table, measure = find(path)
    columns = (measure.name,) if by is None else (measure.name, by)
    rows = by_grain(source(table, *columns))
    words = Words(
        measure.title,
        f"{measure.help.rstrip('.')}, bars of a minute to a day by the time range",
        healthy,
    )
    amounts = UNITS[measure.unit] is Unit.CURRENCY
    if by is None:
        text = (
            f'SELECT window_start AS time, {summed(measure)} AS "{measure.title}"\n'
            f"FROM {rows}\n"
            "GROUP BY 1 ORDER BY 1"
        )
        query = series(text, measure.title)
        styles: tuple[Style, ...] = (
            Style(measure.title, colours.KNOWN.get(measure.title, colours.BLUE)),
        )
    else:
        words = replace(words, title=f"{measure.title} by {by.removesuffix('_id')}")
        text = (
            f"WITH r AS (SELECT * FROM {rows}),\n"
            f"top AS (SELECT {by} FROM r GROUP BY 1"
            f" ORDER BY sum({measure.name}) DESC, 1 LIMIT {top})\n"
            f"SELECT window_start AS time, {by} AS metric, {summed(measure)} AS value\n"
            f"FROM r JOIN top USING ({by}) GROUP BY 1, 2 ORDER BY 1, 2"
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
        amounts=(".*",) if amounts else (),
    )


def trend(table: MetricTable, key: str, measure: str, top: int) -> Sql:
    """Query a line per value of a column, for the sparklines of a table.

    Shape: the `top` biggest values, with zero for a point without rows.
    """
    value = summed({m.name: m for m in table.measures}[measure])
    return series(
        f"WITH r AS (SELECT * FROM {by_grain(source(table, key, measure))}),\n"
        f"top AS (SELECT {key} FROM r GROUP BY 1 ORDER BY sum({measure}) DESC, 1 LIMIT {top})\n"
        f"SELECT window_start AS time, {key} AS product, coalesce({value}, 0) AS value\n"
        "FROM (SELECT DISTINCT window_start FROM r) AS points CROSS JOIN top"
        f" LEFT JOIN r USING (window_start, {key})\n"
        "GROUP BY 1, 2 ORDER BY 1, 2",
        "value",
        by="product",
        ref="trend",
    )
