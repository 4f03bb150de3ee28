"""A board: its panels, and the variables, annotations and links around them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as d

from grafana import colours, uids
from grafana.panels import Panel
from grafana.queries import TIMESCALE, Column, Sql, SqlTarget, table
from grafana.to_grafana import build

COLUMNS = 24  # of Grafana's grid
GRAFANA = "12.4.4"  # the version that docker-compose.yml pins


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a board, which filters `column`.

    With `many`, several values can be chosen, or All. All stands for the column itself, so that
    `country IN ($country)` holds for every row, and is no error in a database without rows.
    """

    name: str
    column: str
    label: str
    query: Sql
    many: bool = True

    @property
    def condition(self) -> str:
        """The SQL that holds for the rows of the chosen values."""
        if self.many:
            return f"{self.column} IN (${self.name})"
        return f"{self.column} = '${self.name}'"


def choices(
    base: str, column: str, where: str = "true", first: str = "", most: int | None = None
) -> Sql:
    """Query all values that a column ever had, or `most` of them, in their own order or by `first`.

    Whatever the range: a choice must not change because the range does. What came just now is in no
    roll-up yet.
    """
    columns = f"{column}, {first}" if first else column
    order = f"sum({first}) DESC, 1" if first else "1"
    limit = f" LIMIT {most}" if most else ""
    return table(
        f"SELECT {column} AS __text, {column} AS __value FROM (\n"
        f"  SELECT {columns} FROM {base}_1d WHERE {where}\n"
        f"  UNION ALL SELECT {columns} FROM {base}_1h"
        f" WHERE {where} AND window_start > now() - interval '2 days'\n"
        f"  UNION ALL SELECT {columns} FROM {base}_1m"
        f" WHERE {where} AND window_start > now() - interval '20 minutes'\n"
        f") AS ever\nGROUP BY {column} ORDER BY {order}{limit}",
        {"__text": Column.TEXT, "__value": Column.TEXT},
    )


def _of_traffic(name: str, column: str, label: str) -> Variable:
    return Variable(name, column, label, choices("gold.traffic", column))


# the one with most orders stands first, for that is the one that a board opens with
CURRENCY = Variable(
    "currency",
    "currency",
    "Currency",
    choices("gold.orders", "currency", first="orders"),
    many=False,
)
SHOP = _of_traffic("shop", "shop_id", "Shop")
COUNTRY = _of_traffic("country", "country", "Country")
CHANNEL = _of_traffic("channel", "channel", "Channel")
DEVICE = _of_traffic("device", "device", "Device")
VARIABLES = {v.name: v for v in (SHOP, CURRENCY, COUNTRY, CHANNEL, DEVICE)}

ANNOTATED = ("deployment", "restart", "replay", "schema", "synthetic")


def annotation_queries() -> list[tuple[str, Sql]]:
    """Query what happened to the pipeline: one query per kind, so that each can be switched off."""
    columns = {
        "time": Column.TIME,
        "timeend": Column.TIME,
        "title": Column.TEXT,
        "text": Column.TEXT,
        "tags": Column.TEXT,
    }
    return [
        (
            kind,
            table(
                "SELECT time, time_end AS timeend, title, text,"
                " array_to_string(tags, ',') AS tags\n"
                "FROM ops.annotations\n"
                # a span that covers the range is seen in it, though it begins before
                f"WHERE kind = '{kind}' AND time <= $__timeTo()"
                " AND coalesce(time_end, time) >= $__timeFrom()\n"
                "ORDER BY time",
                columns,
                ref="annotation",
            ),
        )
        for kind in ANNOTATED
    ]


# each flow's telemetry says when it started, whoever started it: a supervisor or compose
STARTS = {
    "name": "Starts",
    "enable": True,
    "iconColor": colours.ANNOTATIONS["restart"],
    "datasource": {"type": uids.PROMETHEUS_TYPE, "uid": uids.PROMETHEUS},
    "expr": "1000 * max by (flow, instance) (shopstream_start_time_seconds)",
    "step": "60s",
    "titleFormat": "start of {{flow}}",
    "useValueForTime": True,
}


@dataclass(frozen=True)
class Board:
    """A board: rows of panels, each row a height and, from the left, panels with their widths.

    Units: those of Grafana's grid. `since` is where the range begins when the board is opened.
    """

    uid: str
    title: str
    purpose: str
    rows: tuple[tuple[int, tuple[tuple[int, Panel], ...]], ...]
    variables: tuple[Variable, ...] = ()
    refresh: str = "30s"
    since: str = "now-6h"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels in reading order."""
        return tuple(panel for _, row in self.rows for _, panel in row)

    def placed(self) -> list[tuple[int, Panel, d.GridPos]]:
        """Give panels their ids, which count from 1 in reading order, and their positions.

        Errors: ValueError when a row does not fill the grid.
        """
        placed: list[tuple[int, Panel, d.GridPos]] = []
        y = 0
        for height, row in self.rows:
            x = 0
            for width, panel in row:
                placed.append((len(placed) + 1, panel, d.GridPos(h=height, w=width, x=x, y=y)))
                x += width
            if x != COLUMNS:
                raise ValueError(f"{self.uid}: a row of {x} columns: {[p.title for _, p in row]}")
            y += height
        return placed

    def panel_id(self, title: str) -> int:
        """Look up the id of a panel, by which an alert refers to it.

        Errors: LookupError when the board has no such panel.
        """
        for number, panel in enumerate(self.panels, 1):
            if panel.title == title:
                return number
        raise LookupError(f"{self.uid} has no panel {title}")


def rendered(board: Board, titles: Mapping[str, str]) -> str:
    """Write the file of a board; `titles` are those of all boards by uid, to link to them."""
    dashboard: dict[str, Any] = json.loads(json.dumps(_dashboard(board, titles), cls=JSONEncoder))
    dashboard["id"] = None  # Grafana gives it
    dashboard["annotations"]["list"].append(STARTS)
    for panel in dashboard["panels"]:
        # without it Grafana migrates a panel as one of version 6.1, and fixes the range of shares
        panel["pluginVersion"] = GRAFANA
        if panel["type"] == "stat":
            panel["fieldConfig"]["defaults"]["fieldMinMax"] = True  # each line has its own height
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _dashboard(board: Board, titles: Mapping[str, str]) -> d.Dashboard:
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.purpose)
        .tags([uids.TAG])
        .readonly()
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .refresh(board.refresh)
        .time(board.since, "now")
        .timepicker(
            builders.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m", "15m", "1h"])
        )
        .version(1)
        .week_start("monday")
    )
    for variable in board.variables:
        builder.with_variable(_variable(variable))
    for uid, title in titles.items():
        if uid != board.uid:
            builder.link(_board_link(uid, title))
    for number, panel, at in board.placed():
        builder.with_panel(build(panel, number, at))
    dashboard = builder.build()
    dashboard.annotations = d.AnnotationContainer(
        [_alerts(), *(_annotation(kind, query) for kind, query in annotation_queries())]
    )
    return dashboard


def _variable(variable: Variable) -> builders.QueryVariable:
    builder = (
        builders.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(TIMESCALE)
        .query(variable.query.text)
        .refresh(d.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(d.VariableSort.DISABLED)
        .multi(variable.many)
        .include_all(variable.many)
        .allow_custom_value(False)
    )
    if variable.many:
        builder.all_value(variable.column).current(
            d.VariableOption(text="All", value="$__all", selected=True)
        )
    return builder


def _board_link(uid: str, title: str) -> builders.DashboardLink:
    return (
        builders.DashboardLink(title)
        .type(d.DashboardLinkType.LINK)
        .url(f"/d/{uid}")
        .icon("dashboard")
        .keep_time(True)
        .include_vars(True)
        .target_blank(False)
    )


def _annotation(kind: str, query: Sql) -> d.AnnotationQuery:
    annotation = d.AnnotationQuery(
        f"{kind.capitalize()}s",
        TIMESCALE,
        icon_color=colours.ANNOTATIONS[kind],
    )
    target = SqlTarget(query.ref, query.text, query.format)
    annotation.target = target  # type: ignore[assignment]  # the SDK knows Grafana's own only
    return annotation


def _alerts() -> d.AnnotationQuery:
    # Grafana's own: state changes of the alerts that name a panel of this board
    return d.AnnotationQuery(
        "Alerts",
        d.DataSourceRef("grafana", "-- Grafana --"),
        icon_color=colours.ANNOTATIONS["alert"],
        type_val="dashboard",
        built_in=1,
        target=d.AnnotationTarget(limit=100, match_any=False, tags=[], type_val="dashboard"),
    )
