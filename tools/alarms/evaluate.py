"""A rule of a provisioning file, evaluated as Grafana does: query, reduce, threshold, state.

Written after Grafana 11.6: `sql_engine.go` of the PostgreSQL datasource,
`expr/mathexp/reduce.go`, `expr/mathexp/union.go`, `expr/threshold.go`, `ngalert/eval/eval.go` and
`ngalert/state/state.go`.
It reads the rendered file, not our rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import psycopg

from grafana.macros import ExpansionError, expand_alert

Labels = tuple[tuple[str, str], ...]
Series = dict[Labels, list[tuple[datetime, float | None]]]


class State(StrEnum):
    """Grafana's states of a series."""

    NORMAL = "Normal"
    PENDING = "Pending"
    ALERTING = "Alerting"
    NO_DATA = "NoData"
    ERROR = "Error"


class EvaluationError(Exception):
    """What Grafana would call an execution error."""


@dataclass(frozen=True)
class Result:
    """What one evaluation said of one series."""

    state: State
    value: float | None = None


def ask(
    db: psycopg.Connection[Any], model: Mapping[str, Any], start: datetime, end: datetime
) -> Series:
    """Run the SQL and make series of the rows, as `format: time_series` does: texts are labels."""
    if model["format"] != "time_series":
        raise EvaluationError("a table is no series")
    try:
        cursor = db.execute(expand_alert(model["rawSql"], start, end).encode())
        rows = cursor.fetchall()
    except (ExpansionError, psycopg.Error) as error:
        raise EvaluationError(str(error)) from error
    kinds = {c.name: cursor.adapters.types[c.type_code].name for c in cursor.description or ()}
    if kinds.get("time") not in ("timestamptz", "timestamp"):
        raise EvaluationError("no time column found")
    numbers = [
        n
        for n, kind in kinds.items()
        if kind in ("int2", "int4", "int8", "float4", "float8", "numeric")
    ]
    labels = [n for n, kind in kinds.items() if kind in ("text", "varchar", "bpchar")]
    if len(numbers) != 1 or len(numbers) + len(labels) + 1 != len(kinds):
        raise EvaluationError(f"one number wanted, and texts: {kinds}")
    series: Series = {}
    last = None
    for row in rows:
        cells = dict(zip(kinds, row, strict=True))
        moment = cells["time"]
        if last is not None and moment < last:
            raise EvaluationError("the rows do not ascend in time")
        last = moment
        key = tuple(sorted((n, str(cells[n])) for n in labels))
        points = series.setdefault(key, [])
        if points and points[-1][0] == moment:
            raise EvaluationError(f"duplicate results with labels {dict(key)}")
        value = cells[numbers[0]]
        points.append((moment, float(value) if isinstance(value, int | float | Decimal) else None))
    return series


def reduce_last(series: Series, mode: str) -> dict[Labels, float | None]:
    """Give the last number of each series, None for one without numbers."""
    assert mode == "dropNN"
    kept = {
        k: [v for _, v in points if v is not None and not math.isnan(v)]
        for k, points in series.items()
    }
    return {k: values[-1] if values else None for k, values in kept.items()}


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "gt": lambda a, b: a > b,
    "lt": lambda a, b: a < b,
}
COMPARE |= {">": COMPARE["gt"], "<": COMPARE["lt"]}
MATH = re.compile(r"\$(\w) ([<>]) \$(\w)")


def evaluate(
    rule: Mapping[str, Any],
    now: datetime,
    query: Callable[[Mapping[str, Any], datetime, datetime], Series],
) -> dict[Labels, Result]:
    """One evaluation of the chain that the rule's `condition` names."""
    nodes = {node["refId"]: node for node in rule["data"]}

    def reduced(ref: str) -> dict[Labels, float | None]:
        reduce = nodes[ref]["model"]
        source = nodes[reduce["expression"]]
        assert (reduce["type"], reduce["reducer"]) == ("reduce", "last")
        span = source["relativeTimeRange"]
        since, until = (now - timedelta(seconds=span[end]) for end in ("from", "to"))
        return reduce_last(query(source["model"], since, until), reduce["settings"]["mode"])

    compare = nodes[rule["condition"]]["model"]
    try:
        if compare["type"] == "math":
            understood = MATH.fullmatch(compare["expression"])
            assert understood, compare["expression"]
            first, holds, second = understood.groups()
            values, limits = reduced(first), reduced(second)
            compared = {
                labels: (value, limit, COMPARE[holds])
                for labels, value in values.items()
                for of, limit in limits.items()
                # series are matched where the labels of one are among those of the other
                if set(of) <= set(labels) or set(labels) <= set(of)
            }
        else:
            assert compare["type"] == "threshold"
            (condition,) = compare["conditions"]
            (limit,) = condition["evaluator"]["params"]
            compared = {
                labels: (value, limit, COMPARE[condition["evaluator"]["type"]])
                for labels, value in reduced(compare["expression"]).items()
            }
    except EvaluationError:
        return {(): Result(State.ERROR)}
    if not compared:
        return {(): Result(State.NO_DATA)}
    return {
        labels: Result(State.NO_DATA)
        if value is None or limit is None
        else Result(State.ALERTING if beyond(value, limit) else State.NORMAL, value)
        for labels, (value, limit, beyond) in compared.items()
    }


def seconds(written_span: str) -> timedelta:
    """Read a span of a rule's file, `300s`."""
    assert written_span.endswith("s")
    return timedelta(seconds=int(written_span[:-1]))


@dataclass
class Watch:
    """A rule over time: what Grafana shows for each series after every evaluation."""

    rule: Mapping[str, Any]
    states: dict[Labels, State] = field(default_factory=dict)
    since: dict[Labels, datetime] = field(default_factory=dict)

    def look(self, results: Mapping[Labels, Result], now: datetime) -> dict[Labels, State]:
        """Take in an evaluation.

        Without series of its own, no data and errors hold for the series that are known.
        """
        if (
            set(results) == {()}
            and results[()].state in (State.NO_DATA, State.ERROR)
            and self.states
        ):
            results = dict.fromkeys(self.states, results[()])
        self.states = {
            labels: self._next(labels, result, now) for labels, result in results.items()
        }
        return self.states

    def _next(self, labels: Labels, result: Result, now: datetime) -> State:
        before = self.states.get(labels, State.NORMAL)
        wanted: str = result.state
        if result.state is State.NO_DATA:
            wanted = self.rule["noDataState"]
        elif result.state is State.ERROR:
            wanted = self.rule["execErrState"]
        match wanted:
            case "Normal" | "OK":
                return State.NORMAL
            case "KeepLast":
                return before
            case "NoData":
                return State.NO_DATA
            case "Error":
                return State.ERROR
        if before is State.ALERTING:
            return before
        if before is not State.PENDING:
            self.since[labels] = now
        hold = seconds(self.rule["for"])
        return State.ALERTING if now - self.since[labels] >= hold else State.PENDING
