"""What Grafana makes of a query before the database sees it: variables, then global macros, then
the datasource's macros.

Written after Grafana 11.6 (`SqlDatasource.interpolateVariable`, `formatRegistry`,
`sqleng.Interpolate`, `macros.go` with TimescaleDB on), so that tests, bench and pictures run the
very text that Grafana would send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# $name, [[name:format]], ${name.path:format}; Grafana's own pattern
VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}")
MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
INTERVAL = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d|w|M|y)$")
UNIT_SECONDS = {
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
    """What a variable stands for. A variable that takes several is a list even when one is chosen;
    `raw` is an All value.
    """

    value: str | tuple[str, ...]
    raw: bool = False
    text: str = ""


@dataclass(frozen=True)
class Surroundings:
    """The dashboard's range and choices, and how wide the panel is. Time: aware UTC."""

    start: datetime
    end: datetime
    variables: Mapping[str, Value] = field(default_factory=dict)
    width_points: int = 1_000
    min_interval: timedelta = timedelta(minutes=1)

    @property
    def interval(self) -> timedelta:
        return max(rounded_interval((self.end - self.start) / self.width_points), self.min_interval)

    def known(self) -> dict[str, Value]:
        """Grafana's own variables beside the board's."""
        start, end = milliseconds(self.start), milliseconds(self.end)
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
    """The SQL that Grafana's PostgreSQL datasource runs. Errors: ExpansionError for a macro it does
    not know.
    """
    return macros(global_macros(interpolate(text, around, sql_value), around), around)


def expand_prometheus(
    text: str, around: Surroundings, scrape: timedelta = timedelta(seconds=15)
) -> str:
    """The PromQL that Grafana's Prometheus datasource runs: `$__rate_interval` is at least four
    scrapes.
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
    """Put values for variables; what is no variable stays, so that macros reach the datasource."""
    known = around.known()

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        wanted = match[3] or match[6]
        if name not in known:
            return match[0]
        chosen = known[name]
        return (
            chosen.value
            if chosen.raw and isinstance(chosen.value, str)
            else written(name, chosen, wanted, default)
        )

    return VARIABLE.sub(replaced, text)


def written(
    name: str, chosen: Value, wanted: str | None, default: Callable[[str | tuple[str, ...]], str]
) -> str:
    """A value in a format of Grafana's registry. Errors: ExpansionError for one that we do not use."""
    value = chosen.value
    many = value if isinstance(value, tuple) else (value,)
    if wanted is None:
        return value if name.startswith("__") and isinstance(value, str) else default(value)
    if wanted.startswith("date"):
        moment = datetime.fromtimestamp(int(many[0]) / 1000, UTC)
        asked = wanted.partition(":")[2]
        return (
            str(round(moment.timestamp()))
            if asked == "seconds"
            else moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        )
    formats: dict[str, Callable[[], str]] = {
        "raw": lambda: ",".join(many),
        "csv": lambda: ",".join(many),
        "pipe": lambda: "|".join(many),
        "json": lambda: json.dumps(list(many)) if isinstance(value, tuple) else str(value),
        "text": lambda: chosen.text or " + ".join(many),
        # a double quote gets a backslash, which PostgreSQL keeps: so our boards do not use it for
        # SQL
        "sqlstring": lambda: ",".join(
            "'" + v.replace("'", "''").replace('"', '\\"') + "'" for v in many
        ),
        "singlequote": lambda: ",".join("'" + v.replace("'", "\\'") + "'" for v in many),
        "queryparam": lambda: "&".join(f"var-{name}={v}" for v in many),
    }
    if wanted not in formats:
        raise ExpansionError(f"${{{name}:{wanted}}}: no such format here")
    return formats[wanted]()


def sql_value(value: str | tuple[str, ...]) -> str:
    """One value has its quotes doubled and stands between quotes of the query's own; several are
    quoted, comma between.
    """
    if isinstance(value, str):
        return value.replace("'", "''")
    return ",".join("'" + v.replace("'", "''") + "'" for v in value)


def global_macros(sql: str, around: Surroundings) -> str:
    for name, text in (
        ("$__interval_ms", str(round(around.interval.total_seconds() * 1000))),
        ("$__interval", written_interval(around.interval)),
        ("$__unixEpochFrom()", str(int(around.start.timestamp()))),
        ("$__unixEpochTo()", str(int(around.end.timestamp()))),
    ):
        sql = sql.replace(name, text)
    return sql


def macros(sql: str, around: Surroundings) -> str:
    """Grafana's macros; the arguments are split at commas and end at the first bracket, so they
    hold no call.
    """

    def replaced(match: re.Match[str]) -> str:
        name, arguments = match[1], [a.strip(" ") for a in match[2].split(",")]
        first = sql.index(match[0]) + len(match[0])  # Grafana looks at the first such call only
        if name == "__timeGroup" and sql[first : first + 1] == ",":
            name = "__timeGroupAlias"
        return macro(name, arguments, around)

    return MACRO.sub(replaced, sql)


def macro(name: str, arguments: list[str], around: Surroundings) -> str:
    start, end = around.start, around.end
    column = arguments[0]
    match name:
        case "__time":
            return f'{column} AS "time"'
        case "__timeEpoch":
            return f'extract(epoch from {column}) as "time"'
        case "__timeFilter":
            return f"{column} BETWEEN '{nanoseconds(start)}' AND '{nanoseconds(end)}'"
        case "__timeFrom":
            return f"'{nanoseconds(start)}'"
        case "__timeTo":
            return f"'{nanoseconds(end)}'"
        case "__timeGroup" | "__timeGroupAlias":
            if len(arguments) < 2:
                raise ExpansionError(
                    f"macro {name} needs time column and interval and optional fill value"
                )
            grouped = f"time_bucket('{seconds_of(arguments[1]):.3f}s',{column})"
            return grouped + (' AS "time"' if name.endswith("Alias") else "")
        case "__unixEpochFilter":
            return f"{column} >= {int(start.timestamp())} AND {column} <= {int(end.timestamp())}"
    raise ExpansionError(f'unknown macro "{name}"')


def seconds_of(interval: str) -> float:
    found = INTERVAL.match(interval.strip("'"))
    if found is None:
        raise ExpansionError(f"error parsing interval {interval}")
    return float(found[1]) * UNIT_SECONDS[found[2]]


# up to which length of a point (ms) Grafana rounds to which: rangeUtil.roundInterval
ROUNDED = (
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


def rounded_interval(length: timedelta) -> timedelta:
    exact = length.total_seconds() * 1000
    return timedelta(
        milliseconds=next((to for below, to in ROUNDED if exact < below), 31_536_000_000)
    )


def written_interval(length: timedelta) -> str:
    seconds = length.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{round(seconds * 1000)}ms"


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def nanoseconds(moment: datetime) -> str:
    """Go's RFC3339Nano: without trailing zeros."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"
