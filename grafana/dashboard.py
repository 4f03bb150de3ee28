"""What stands around the panels: variables, annotations, links; and the board that holds all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as d

from grafana import colours, uids
from grafana.panels import Panel, Prose
from grafana.queries import TIMESCALE, Column, Sql, SqlTarget, table
from grafana.ranges import Source, roughly
from grafana.to_grafana import build

COLUMNS = 24


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a board.

    `column` is what it filters. With `many`, several values can be chosen, or All: then the
    variable stands for the column itself, so that `country IN ($country)` holds for every row, in a
    database without rows too.
    """

    name: str
    column: str
    label: str
    query: Sql
    many: bool = True

    @property
    def condition(self) -> str:
        return (
            f"{self.column} IN (${self.name})" if self.many else f"{self.column} = '${self.name}'"
        )


def of_orders(name: str, column: str, label: str) -> Variable:
    """A variable whose values are those with traffic in the range, the busiest first."""
    source = Source("gold.traffic", (column, "events"))
    text = (
        f"SELECT {column} AS __text, {column} AS __value\nFROM {roughly(source)}\nGROUP BY {column}"
    )
    text += f" ORDER BY sum(events) DESC, {column}"
    return Variable(
        name, column, label, table(text, {"__text": Column.TEXT, "__value": Column.TEXT})
    )


CURRENCY = Variable(
    "currency",
    "currency",
    "Currency",
    table(
        "SELECT currency AS __text, currency AS __value\n"
        f"FROM {roughly(Source('gold.orders', ('currency', 'orders')))}\n"
        "GROUP BY currency ORDER BY sum(orders) DESC, currency",
        {"__text": Column.TEXT, "__value": Column.TEXT},
    ),
    many=False,
)
SHOP = of_orders("shop", "shop_id", "Shop")
COUNTRY = of_orders("country", "country", "Country")
CHANNEL = of_orders("channel", "channel", "Channel")
DEVICE = of_orders("device", "device", "Device")
VARIABLES = {v.name: v for v in (SHOP, CURRENCY, COUNTRY, CHANNEL, DEVICE)}


def happenings(
    kinds: Sequence[str] = ("deployment", "restart", "replay", "schema", "synthetic"),
) -> list[tuple[str, Sql]]:
    """What happened to the pipeline, a query a kind so that each has its colour and its switch."""
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
                "SELECT time, time_end AS timeend, title, text, array_to_string(tags,"
                " ',') AS tags\n"
                "FROM ops.annotations\n"
                f"WHERE kind = '{kind}' AND $__timeFilter(time)\n"
                "ORDER BY time",
                columns,
                ref="annotation",
            ),
        )
        for kind in kinds
    ]


@dataclass(frozen=True)
class Board:
    """A board: rows of panels, each row a height and panels with their widths, from the left."""

    uid: str
    title: str
    purpose: str
    rows: tuple[tuple[int, tuple[tuple[int, Panel], ...]], ...]
    variables: tuple[Variable, ...] = ()
    extra: tuple[Variable, ...] = ()
    refresh: str = "30s"
    since: str = "now-6h"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for _, row in self.rows for _, panel in row)

    def placed(self) -> list[tuple[int, Panel, d.GridPos]]:
        """Panels with their ids, which count from 1 in reading order, and their places."""
        found: list[tuple[int, Panel, d.GridPos]] = []
        y = 0
        for height, row in self.rows:
            x = 0
            for width, panel in row:
                found.append((len(found) + 1, panel, d.GridPos(h=height, w=width, x=x, y=y)))
                x += width
            if x != COLUMNS:
                raise ValueError(f"{self.uid}: a row of {x} columns: {[p.title for _, p in row]}")
            y += height
        return found

    def panel_id(self, title: str) -> int:
        """What an alert names to be shown on its panel. Errors: KeyError."""
        return {panel.title: number for number, panel, _ in self.placed()}[title]


def model(board: Board, boards: Mapping[str, str]) -> d.Dashboard:
    """Grafana's dashboard. `boards` maps the uids of all boards to their titles, for the links
    between them.
    """
    made = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.purpose)
        .tags([uids.TAG])
        .readonly()
    )
    made.tooltip(d.DashboardCursorSync.CROSSHAIR).timezone("browser").refresh(board.refresh).time(
        board.since, "now"
    )
    made.timepicker(
        builders.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m", "15m", "1h"])
    )
    made.version(1).week_start("monday")
    for variable in (*board.variables, *board.extra):
        made.with_variable(variable_builder(variable))
    for uid, title in boards.items():
        if uid != board.uid:
            made.link(
                builders.DashboardLink(title)
                .type(d.DashboardLinkType.LINK)
                .url(f"/d/{uid}")
                .icon("dashboard")
                .keep_time(True)
                .include_vars(True)
                .target_blank(False)
            )
    for number, panel, at in board.placed():
        made.with_panel(build(panel, number, at))
    dashboard = made.build()
    dashboard.annotations = d.AnnotationContainer(
        [alerts_annotation(), *(annotation(k, q) for k, q in happenings())]
    )
    return dashboard


def variable_builder(variable: Variable) -> builders.QueryVariable:
    made = (
        builders.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(TIMESCALE)
        .query(variable.query.text)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.DISABLED)
        .multi(variable.many)
        .include_all(variable.many)
        .allow_custom_value(False)
    )
    if variable.many:
        made.all_value(variable.column).current(
            d.VariableOption(text="All", value="$__all", selected=True)
        )
    return made


def annotation(kind: str, query: Sql) -> d.AnnotationQuery:
    made = d.AnnotationQuery(
        f"{kind.capitalize()}s".replace("schemas", "schema"),
        TIMESCALE,
        icon_color=colours.ANNOTATIONS[kind],
    )
    made.target = SqlTarget(query.ref, query.text, query.format)  # type: ignore[assignment]  # the SDK knows Grafana's own only
    return made


def alerts_annotation() -> d.AnnotationQuery:
    """Grafana's own: state changes of the alerts that name a panel of this board."""
    return d.AnnotationQuery(
        "Alerts",
        d.DataSourceRef("grafana", "-- Grafana --"),
        icon_color=colours.ANNOTATIONS["alert"],
        type_val="dashboard",
        built_in=1,
        target=d.AnnotationTarget(limit=100, match_any=False, tags=[], type_val="dashboard"),
    )


def rendered(board: Board, boards: Mapping[str, str]) -> str:
    """The file. `id` is null: Grafana gives it."""
    loaded: dict[str, Any] = json.loads(json.dumps(model(board, boards), cls=JSONEncoder))
    loaded["id"] = None
    return json.dumps(loaded, indent=2, ensure_ascii=False) + "\n"


def asked(board: Board) -> list[Panel]:
    return [p for p in board.panels if not isinstance(p.look, Prose)]
