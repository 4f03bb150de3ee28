"""What Grafana makes of a query before the database sees it.

Variables come first, then global macros, then those of the datasource. Tests, bench and pictures
run the text that Grafana would send.

Source: Grafana 11.6: `SqlDatasource.interpolateVariable`, `formatRegistry`, `sqleng.Interpolate`,
`macros.go` with TimescaleDB on, `rangeUtil.roundInterval`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# $name, [[name:format]], ${name.path:format}; Grafana's own pattern
_VARIABLE = re.compile(
    r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}"
)
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_INTERVAL = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d|w|M|y)$")
_UNIT_SECONDS = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_629_746,
    "y": 31_556_952,
}


class ExpansionError(Exception):
    """A macro that Grafana would refuse."""


@dataclass(frozen=True)
class Value:
    """What a variable stands for.

    `value` is a tuple for a variable that takes several values, even when one is chosen. A `raw`
    value is put in as it stands, as Grafana does with a variable's value for All.
    """

    value: str | tuple[str, ...]
    raw: bool = False
    text: str = ""


@dataclass(frozen=True)
class Surroundings:
    """The dashboard's range and choices, and how wide the panel is.

    Time: aware UTC.
    """

    start: datetime
    end: datetime
    variables: Mapping[str, Value] = field(default_factory=dict)
    width_points: int = 1_000
    min_interval: timedelta = timedelta(minutes=1)

    @property
    def interval(self) -> timedelta:
        """The length of a point on the panel, as Grafana rounds it."""
        exact = (self.end - self.start) / self.width_points
        return max(_rounded_interval(exact), self.min_interval)

    def known(self) -> dict[str, Value]:
        """Give the values of Grafana's own variables and of the board's."""
        start, end = _milliseconds(self.start), _milliseconds(self.end)
        length = end - start
        own = {
            "__from": str(start),
            "__to": str(end),
            "__range_ms": str(length),
            "__range_s": str(round(length / 1000)),
            "__range": f"{round(length / 1000)}s",
        }
        return {name: Value(text) for name, text in own.items()} | dict(self.variables)


def expand(text: str, around: Surroundings) -> str:
    """Write the SQL of a panel as Grafana's PostgreSQL datasource runs it.

    Errors: ExpansionError for a macro that Grafana would refuse.
    """
    return _macros(_global_macros(interpolate(text, around, _sql_value), around), around)


def expand_alert(text: str, start: datetime, end: datetime) -> str:
    """Write the SQL of an alert as Grafana runs it, where there are no dashboard variables.

    Errors: ExpansionError for a macro that Grafana would refuse, and for a variable.
    """
    around = Surroundings(start, end)
    expanded = _macros(_global_macros(text, around), around)
    if "$" in expanded:
        raise ExpansionError("there are no variables in an alert")
    return expanded


def expand_prometheus(
    text: str, around: Surroundings, scrape: timedelta = timedelta(seconds=15)
) -> str:
    """Write the PromQL that Grafana's Prometheus datasource runs.

    Time: `$__rate_interval` is at least four times `scrape`.
    """
    step = max(around.interval, scrape)
    rate = max(step + scrape, 4 * scrape)
    for name, length in (("$__rate_interval", rate), ("$__interval", step)):
        text = text.replace(name, f"{round(length.total_seconds())}s")
    return interpolate(
        text, around, lambda value: value if isinstance(value, str) else f"({'|'.join(value)})"
    )


def interpolate(
    text: str, around: Surroundings, default: Callable[[str | tuple[str, ...]], str]
) -> str:
    """Put values in the place of variables; an unknown name stays, as macros must.

    `default` writes a value for which the text names no format.
    """
    known = around.known()

    def replacement(match: re.Match[str]) -> str:
        name, form = match[1] or match[2] or match[4], match[3] or match[6]
        if name not in known:
            return match[0]
        value = known[name]
        if value.raw and isinstance(value.value, str):
            return value.value
        if form is not None:
            return _formatted(name, value, form)
        own = name.startswith("__") and isinstance(value.value, str)
        return str(value.value) if own else default(value.value)

    return _VARIABLE.sub(replacement, text)


def _formatted(name: str, value: Value, form: str) -> str:
    # the formats of Grafana's registry that boards, links and tests use
    many = value.value if isinstance(value.value, tuple) else (value.value,)
    if form.startswith("date"):
        return _date(int(many[0]), form.partition(":")[2])
    formats: dict[str, Callable[[], str]] = {
        "raw": lambda: ",".join(many),
        "csv": lambda: ",".join(many),
        "pipe": lambda: "|".join(many),
        "json": lambda: (
            json.dumps(list(many)) if isinstance(value.value, tuple) else str(value.value)
        ),
        "text": lambda: value.text or " + ".join(many),
        # a double quote gets a backslash, which PostgreSQL keeps: boards do not use it for SQL
        "sqlstring": lambda: ",".join(
            "'" + v.replace("'", "''").replace('"', '\\"') + "'" for v in many
        ),
        "singlequote": lambda: ",".join("'" + v.replace("'", "\\'") + "'" for v in many),
        "queryparam": lambda: "&".join(f"var-{name}={v}" for v in many),
    }
    if form not in formats:
        raise ExpansionError(f"${{{name}:{form}}}: no such format here")
    return formats[form]()


def _date(since_1970_milliseconds: int, form: str) -> str:
    moment = datetime.fromtimestamp(since_1970_milliseconds / 1000, UTC)
    if form == "seconds":
        return str(round(moment.timestamp()))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _sql_value(value: str | tuple[str, ...]) -> str:
    # one value stands between quotes of the query's own; several bring theirs
    if isinstance(value, str):
        return value.replace("'", "''")
    return ",".join("'" + v.replace("'", "''") + "'" for v in value)


def _global_macros(sql: str, around: Surroundings) -> str:
    for name, text in (
        ("$__interval_ms", str(round(around.interval.total_seconds() * 1000))),
        ("$__interval", _written_interval(around.interval)),
        ("$__unixEpochFrom()", str(int(around.start.timestamp()))),
        ("$__unixEpochTo()", str(int(around.end.timestamp()))),
    ):
        sql = sql.replace(name, text)
    return sql


def _macros(sql: str, around: Surroundings) -> str:
    # arguments are split at commas and end at the first bracket, so they hold no call

    def replacement(match: re.Match[str]) -> str:
        name, arguments = match[1], [a.strip(" ") for a in match[2].split(",")]
        first = sql.index(match[0]) + len(match[0])  # Grafana looks at the first such call only
        if name == "__timeGroup" and sql[first : first + 1] == ",":
            name = "__timeGroupAlias"
        return _macro(name, arguments, around)

    return _MACRO.sub(replacement, sql)


def _macro(name: str, arguments: list[str], around: Surroundings) -> str:
    start, end = around.start, around.end
    column = arguments[0]
    match name:
        case "__time":
            return f'{column} AS "time"'
        case "__timeEpoch":
            return f'extract(epoch from {column}) as "time"'
        case "__timeFilter":
            return f"{column} BETWEEN '{_nanoseconds(start)}' AND '{_nanoseconds(end)}'"
        case "__timeFrom":
            return f"'{_nanoseconds(start)}'"
        case "__timeTo":
            return f"'{_nanoseconds(end)}'"
        case "__timeGroup" | "__timeGroupAlias":
            if len(arguments) < 2:
                raise ExpansionError(
                    f"macro {name} needs time column and interval and optional fill value"
                )
            grouped = f"time_bucket('{_seconds(arguments[1]):.3f}s',{column})"
            return grouped + (' AS "time"' if name.endswith("Alias") else "")
        case "__unixEpochFilter":
            return f"{column} >= {int(start.timestamp())} AND {column} <= {int(end.timestamp())}"
    raise ExpansionError(f'unknown macro "{name}"')


def _seconds(interval: str) -> float:
    match = _INTERVAL.match(interval.strip("'"))
    if match is None:
        raise ExpansionError(f"error parsing interval {interval}")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


# below which exact length of a point Grafana takes which, in milliseconds
_ROUNDED = (
    (15, 10),
    (35, 20),
    (75, 50),
    (150, 100),
    (350, 200),
    (750, 500),
    (1_500, 1_000),
    (3_500, 2_000),
    (7_500, 5_000),
    (12_500, 10_000),
    (17_500, 15_000),
    (25_000, 20_000),
    (45_000, 30_000),
    (90_000, 60_000),
    (210_000, 120_000),
    (450_000, 300_000),
    (750_000, 600_000),
    (1_050_000, 900_000),
    (1_500_000, 1_200_000),
    (2_700_000, 1_800_000),
    (5_400_000, 3_600_000),
    (9_000_000, 7_200_000),
    (16_200_000, 10_800_000),
    (32_400_000, 21_600_000),
    (86_400_000, 43_200_000),
    (604_800_000, 86_400_000),
    (1_814_400_000, 604_800_000),
    (3_628_800_000, 2_592_000_000),
)


def _rounded_interval(length: timedelta) -> timedelta:
    exact = length.total_seconds() * 1000
    return timedelta(
        milliseconds=next((to for below, to in _ROUNDED if exact < below), 31_536_000_000)
    )


def _written_interval(length: timedelta) -> str:
    seconds = length.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{round(seconds * 1000)}ms"


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _nanoseconds(moment: datetime) -> str:
    # Go's RFC3339Nano: without trailing zeros
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"
