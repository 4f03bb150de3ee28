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
from grafana.ranges import Source

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
    healthy: str = "",
    by: str | None = None,
    top: int = 8,
    more: tuple[str, ...] = (),
) -> Panel:
    """Chart a measure over time; with `by`, stacked by the `top` biggest values of a dimension."""
    table, measure = find(path)
    columns = (measure.name,) if by is None else (measure.name, by)
    rows = source(table, *columns, more=more)
    words = Words(
        measure.title,
        f"{measure.help.rstrip('.')}, bars of a minute to a day by the time range",
        healthy,
    )
    amounts = UNITS[measure.unit] is Unit.CURRENCY
    if by is None:
        text = rows.over_time(f'coalesce({summed(measure)}, 0) AS "{measure.title}"')
        query = series(text, measure.title)
        styles: tuple[Style, ...] = (
            Style(measure.title, colours.KNOWN.get(measure.title, colours.BLUE)),
        )
    else:
        words = replace(words, title=f"{measure.title} by {by.removesuffix('_id')}")
        total = f"sum({measure.name})"
        text = rows.by_value(by, f"coalesce({summed(measure)}, 0)", total, top)
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


def trend(table: MetricTable, key: str, measure: str, top: int, more: tuple[str, ...] = ()) -> Sql:
    """Query a line per value of a column, for the sparklines of a table.

    Shape: the `top` values with the biggest sums, as a table that ranks by the same sum has them.
    """
    value = summed({m.name: m for m in table.measures}[measure])
    rows = source(table, key, measure, more=more)
    text = rows.by_value(key, f"coalesce({value}, 0)", f"sum({measure})", top, label="product")
    return series(text, "value", by="product", ref="trend")
