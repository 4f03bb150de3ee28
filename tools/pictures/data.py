"""A panel's data, as Grafana would hold it: from its queries, run as Grafana would send them."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
SCRAPE = timedelta(seconds=15)  # the shortest step that panels of telemetry are rendered with


@dataclass(frozen=True)
class Datasources:
    """Where data come from; without Prometheus its panels stay empty."""

    database: psycopg.Connection[Any]
    prometheus: str | None


@dataclass
class Data:
    """What the queries of a panel returned.

    Shape: `series` and `trends` (for sparklines in a table) by name; `rows` of the first table,
    `more_rows` of further ones; `unit` is Grafana's where a query names it; `missing` says why
    there are no data.
    """

    series: dict[str, Points] = field(default_factory=dict)
    trends: dict[str, Points] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    more_rows: list[dict[str, Any]] = field(default_factory=list)
    unit: str | None = None
    missing: str | None = None


def choose(
    db: psycopg.Connection[Any], board: Board, around: Surroundings, wanted: Mapping[str, str]
) -> Surroundings:
    """Set the board's variables as for a person who opens it, or to what is wanted.

    That is All, and the first value where only one can be chosen.
    """
    return replace(
        around, variables={v.name: _choice(db, v, around, wanted) for v in board.variables}
    )


def _choice(
    db: psycopg.Connection[Any], variable: Variable, around: Surroundings, wanted: Mapping[str, str]
) -> Value:
    if variable.name in wanted:
        return Value((wanted[variable.name],) if variable.many else wanted[variable.name])
    if variable.many:
        return Value(variable.column, raw=True, text="All")
    row = db.execute(expand(variable.query.text, around).encode()).fetchone()
    return Value(row[1] if row else "")


def fetch(sources: Datasources, panel: Panel, around: Surroundings) -> Data:
    """Run the queries of a panel."""
    data = Data()
    for query in queries_of(panel):
        if isinstance(query, Sql):
            _read(sources.database, query, around, data)
        elif sources.prometheus is None:
            data.missing = NEEDS_PROMETHEUS
        else:
            data.series |= query_prometheus(sources.prometheus, query, around)
    return data


def _read(db: psycopg.Connection[Any], query: Sql, around: Surroundings, data: Data) -> None:
    rows = db.execute(expand(query.text, around).encode()).fetchall()
    names, kinds = list(query.columns), list(query.columns.values())
    if query.ref == UNIT_REF:
        data.unit = rows[0][0]
    elif query.format is Format.TABLE:
        cells = [{n: _plain(v) for n, v in zip(names, row, strict=True)} for row in rows]
        if data.rows or data.series:
            data.more_rows += cells
        else:
            data.rows += cells
    elif kinds[1] is Column.TEXT:
        _read_named(rows, data.trends if query.ref == "trend" else data.series)
        if query.ref != "trend":
            _fill(data.series)
    else:
        for i, name in enumerate(names[1:], 1):
            data.series[name] = [(row[0], _plain(row[i])) for row in rows]


def _read_named(rows: list[tuple[Any, ...]], series: dict[str, Points]) -> None:
    for moment, name, value in rows:
        series.setdefault(name, []).append((moment, _plain(value)))


def _fill(series: dict[str, Points]) -> None:
    # as in a wide frame every series has every moment; what it lacks is null
    moments = sorted({moment for points in series.values() for moment, _ in points})
    for name, points in series.items():
        known = dict(points)
        series[name] = [(moment, known.get(moment)) for moment in moments]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def query_prometheus(url: str, query: Prom, around: Surroundings) -> dict[str, Points]:
    """Query Prometheus over the range; the legend names the series.

    Errors: urllib.error.URLError when it does not answer.
    """
    step = max(around.interval, SCRAPE).total_seconds()
    arguments = {
        "query": expand_prometheus(query.expr, replace(around, min_interval=SCRAPE)),
        "step": step,
        "start": around.start.timestamp(),
        "end": around.end.timestamp(),
    }
    address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(arguments)}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        results = json.load(answer)["data"]["result"]
    return {
        _legend(query.legend, result["metric"]): [
            (datetime.fromtimestamp(t, UTC), float(v)) for t, v in result["values"]
        ]
        for result in results
    }


def _legend(template: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template
