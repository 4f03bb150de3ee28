"""A panel's data as Grafana's backend sends them: frames, from its queries as Grafana asks them."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from grafana import uids
from grafana.dashboard import Board, Variable
from grafana.macros import Surroundings, Value, expand, expand_prometheus
from grafana.panels import Panel
from grafana.queries import Column, Format, Prom, Sql
from grafana.to_grafana import queries_of

Frame = dict[str, Any]
Points = list[tuple[datetime, float | None]]
SCRAPE = timedelta(seconds=15)  # the shortest step that panels of telemetry are rendered with


@dataclass(frozen=True)
class Datasources:
    """Where data come from; without Prometheus its panels stay empty."""

    database: psycopg.Connection[Any]
    prometheus: str | None = None


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


def rendered(board: Board) -> dict[str, dict[str, Any]]:
    """Read the panels of a board's file, by title."""
    file = uids.PROVISIONING / "dashboards" / f"{board.uid}.json"
    return {raw["title"]: raw for raw in json.loads(file.read_text())["panels"]}


def frames(sources: Datasources, panel: Panel, around: Surroundings) -> list[Frame]:
    """Run the queries of a panel; those of telemetry only where there is a Prometheus."""
    made: list[Frame] = []
    for query in queries_of(panel):
        if isinstance(query, Sql):
            rows = sources.database.execute(expand(query.text, around).encode()).fetchall()
            made.append(_frame(query, rows))
        elif sources.prometheus is not None:
            made += _series(query, query_prometheus(sources.prometheus, query, around))
    return made


def _series(query: Prom, series: Mapping[str, Points]) -> Iterator[Frame]:
    # Prometheus' datasource makes a frame of each series
    for name, points in series.items():
        yield {
            "refId": query.ref,
            "fields": [
                {"name": "Time", "type": "time", "values": [_plain(t) for t, _ in points]},
                {"name": name, "type": "number", "values": [v for _, v in points]},
            ],
        }


def _frame(query: Sql, rows: list[tuple[Any, ...]]) -> Frame:
    names, kinds = list(query.columns), list(query.columns.values())
    if query.format is Format.SERIES and kinds[1:] == [Column.TEXT, Column.NUMBER]:
        return {"refId": query.ref, "fields": _wide(names, rows)}
    types = {Column.TIME: "time", Column.TEXT: "string", Column.NUMBER: "number"}
    return {
        "refId": query.ref,
        "fields": [
            {"name": name, "type": types[kind], "values": [_plain(row[i]) for row in rows]}
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ],
    }


def _wide(names: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    # a field per text, which is its name where the column is called metric, else a label
    times = sorted({row[0] for row in rows})
    points = {(row[1], row[0]): _plain(row[2]) for row in rows}
    fields: list[dict[str, Any]] = [
        {"name": names[0], "type": "time", "values": [_plain(t) for t in times]}
    ]
    for text in dict.fromkeys(row[1] for row in rows):
        named: dict[str, Any] = (
            {"name": text}
            if names[1] == "metric"
            else {"name": names[2], "labels": {names[1]: text}}
        )
        values = [points.get((text, time)) for time in times]
        fields.append({**named, "type": "number", "values": values})
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
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
