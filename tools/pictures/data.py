"""A panel's data, as Grafana's frames would hold it: the queries are run as Grafana would send
them.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from grafana.currency import UNIT_REF
from grafana.dashboard import Board, Variable
from grafana.macros import Surroundings, Value, expand, expand_prometheus
from grafana.panels import Panel
from grafana.queries import Column, Format, Prom, Sql
from grafana.to_grafana import queries_of

Points = list[tuple[datetime, float | None]]
NEEDS_PROMETHEUS = "needs Prometheus"


@dataclass
class Data:
    """`series` by name, of time series; `rows` of tables, by their query; `unit` is Grafana's,
    where the data names it.
    """

    series: dict[str, Points] = field(default_factory=dict)
    trends: dict[str, Points] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    more: list[dict[str, Any]] = field(default_factory=list)
    unit: str | None = None
    missing: str | None = None


def choose(
    db: psycopg.Connection[Any], board: Board, around: Surroundings, wanted: Mapping[str, str]
) -> Surroundings:
    """What a person sees who opens the board: All, and the first value of what takes one."""
    chosen: dict[str, Value] = {}
    for variable in (*board.variables, *board.extra):
        chosen[variable.name] = first(db, variable, around, wanted)
    return replace(around, variables=chosen)


def first(
    db: psycopg.Connection[Any], variable: Variable, around: Surroundings, wanted: Mapping[str, str]
) -> Value:
    if variable.name in wanted:
        return Value((wanted[variable.name],) if variable.many else wanted[variable.name])
    if variable.many:
        return Value(variable.column, raw=True, text="All")
    found = db.execute(expand(variable.query.text, around).encode()).fetchone()
    return Value(found[1] if found else "")


def fetch(
    db: psycopg.Connection[Any], prometheus: str | None, panel: Panel, around: Surroundings
) -> Data:
    found = Data()
    for query in queries_of(panel):
        if isinstance(query, Prom):
            if prometheus is None:
                found.missing = NEEDS_PROMETHEUS
            else:
                found.series |= ask(prometheus, query, around)
        else:
            take(db, query, around, found)
    return found


def take(db: psycopg.Connection[Any], query: Sql, around: Surroundings, found: Data) -> None:
    rows = db.execute(expand(query.text, around).encode()).fetchall()
    names, kinds = list(query.columns), list(query.columns.values())
    if query.ref == UNIT_REF:
        found.unit = rows[0][0]
    elif query.format is Format.TABLE:
        made = [{n: number(v) for n, v in zip(names, row, strict=True)} for row in rows]
        if found.rows or found.series:
            found.more += made
        else:
            found.rows += made
    elif kinds[1] is Column.TEXT:
        into = found.trends if query.ref == "trend" else found.series
        for moment, name, value in rows:
            into.setdefault(name, []).append((moment, number(value)))
        if query.ref != "trend":
            fill(into)
    else:
        for i, name in enumerate(names[1:], 1):
            found.series[name] = [(row[0], number(row[i])) for row in rows]


def fill(series: dict[str, Points]) -> None:
    """Give every series every moment, as a wide frame has it: what a series lacks is null."""
    moments = sorted({moment for points in series.values() for moment, _ in points})
    for name, points in series.items():
        known = dict(points)
        series[name] = [(moment, known.get(moment)) for moment in moments]


def number(value: Any) -> Any:
    return (
        float(value)
        if hasattr(value, "as_integer_ratio") and not isinstance(value, int | float)
        else value
    )


def ask(prometheus: str, query: Prom, around: Surroundings) -> dict[str, Points]:
    """A range of Prometheus, named by the legend."""
    step = max(around.interval, timedelta(seconds=15)).total_seconds()
    asked = {
        "query": expand_prometheus(query.expr, replace(around, min_interval=timedelta(seconds=15))),
        "step": step,
        "start": around.start.timestamp(),
        "end": around.end.timestamp(),
    }
    with urllib.request.urlopen(
        f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=30
    ) as answer:
        results = json.load(answer)["data"]["result"]
    return {
        legend(query.legend, result["metric"]): [
            (datetime.fromtimestamp(t, UTC), float(v)) for t, v in result["values"]
        ]
        for result in results
    }


def legend(template: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template
