"""From our panels to Grafana's: one function per look, over the SDK's typed builders."""

from __future__ import annotations

from typing import Any

import grafana_foundation_sdk.models.bargauge  # noqa: F401  registers how bar gauges load
from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    piechart,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import piechart as pie_models
from grafana_foundation_sdk.models import text as text_models

from grafana import colours
from grafana.currency import UNIT_REF, unit_query
from grafana.panels import Alarms, Bars, Chart, Grid, Heat, Panel, Pie, Prose, Stat, Style, Unit
from grafana.queries import PROMETHEUS, TIMESCALE, Prom, Query
from grafana.thresholds import Threshold, Worse

SQL_INTERVAL = "1m"  # nothing in the tables is finer
PROMETHEUS_INTERVAL = "15s"  # three scrapes


def build(panel: Panel, number: int, at: d.GridPos) -> Any:
    """Make the SDK's builder of a panel; `number` is its id on the board."""
    built: Any = LOOKS[type(panel.look)](panel)
    built.id(number).title(panel.title).description(panel.words.description).grid_pos(at)
    if isinstance(panel.look, Prose | Alarms):
        return built
    queries = queries_of(panel)
    built.datasource(PROMETHEUS if all(isinstance(q, Prom) for q in queries) else TIMESCALE)
    built.targets([q.target() for q in queries])
    built.interval(SQL_INTERVAL if panel.sql else PROMETHEUS_INTERVAL)
    built.unit(str(Unit.WHOLE) if panel.unit is Unit.CURRENCY else str(panel.unit))
    built.decimals(panel.decimals).no_value(panel.words.nothing)
    built.thresholds(steps(panel.threshold))
    for transformation in _transformations(panel):
        built.with_transformation(transformation)
    for style in panel.styles:
        if properties := _properties(style):
            pattern = style.name.startswith("/")
            matcher = d.MatcherConfig("byRegexp" if pattern else "byName", style.name)
            built.with_override(matcher, properties)
    if panel.link:
        built.data_links([_link(*panel.link)])
    return built


def queries_of(panel: Panel) -> tuple[Query, ...]:
    """Give the panel's queries, and the one that names its currency where it has amounts."""
    return (*panel.queries, unit_query()) if panel.amounts else panel.queries


def steps(threshold: Threshold | None) -> builders.ThresholdsConfig:
    """Put green, amber and red in Grafana's order: from the lowest value up."""
    if threshold is None:
        colour_steps = [d.Threshold(None, colours.GREEN)]
    elif threshold.worse is Worse.ABOVE:
        watch = [] if threshold.watch is None else [d.Threshold(threshold.watch, colours.AMBER)]
        act = d.Threshold(threshold.act, colours.RED)
        colour_steps = [d.Threshold(None, colours.GREEN), *watch, act]
    else:
        watch = [] if threshold.watch is None else [d.Threshold(threshold.act, colours.AMBER)]
        good = threshold.act if threshold.watch is None else threshold.watch
        colour_steps = [d.Threshold(None, colours.RED), *watch, d.Threshold(good, colours.GREEN)]
    return builders.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(colour_steps)


def _transformations(panel: Panel) -> list[d.DataTransformerConfig]:
    transformations = []
    if isinstance(panel.look, Pie) or (isinstance(panel.look, Bars) and panel.look.rows):
        only = d.MatcherConfig("byRefId", panel.queries[0].ref)
        transformations.append(d.DataTransformerConfig("rowsToFields", filter_val=only, options={}))
    if panel.amounts:
        transformations.append(
            d.DataTransformerConfig(
                "configFromData",
                options={
                    "configRefId": UNIT_REF,
                    "mappings": [{"fieldName": "unit", "handlerKey": "unit"}],
                    "applyTo": {"id": "byRegexp", "options": f"/^({'|'.join(panel.amounts)})$/"},
                },
            )
        )
    if isinstance(panel.look, Grid) and panel.look.join:
        transformations += [
            d.DataTransformerConfig("timeSeriesTable", options={"trend": {"stat": "sum"}}),
            d.DataTransformerConfig(
                "joinByField", options={"byField": panel.look.join, "mode": "inner"}
            ),
        ]
    return transformations


def _properties(style: Style) -> list[d.DynamicConfigValue]:
    # Grafana's overrides for a field, in the order of its editor
    properties = _value_properties(style) | _colour_properties(style) | _custom_properties(style)
    if style.link is not None:
        properties["links"] = [_link(*style.link).build()]
    return [d.DynamicConfigValue(name, value) for name, value in properties.items()]


def _value_properties(style: Style) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if style.title is not None:
        properties["displayName"] = style.title
    if style.unit is not None and style.unit is not Unit.CURRENCY:
        properties["unit"] = str(style.unit)
    if style.decimals is not None:
        properties["decimals"] = style.decimals
    if style.maximum is not None:
        properties |= {"min": 0, "max": style.maximum}
    return properties


def _colour_properties(style: Style) -> dict[str, Any]:
    if style.threshold is not None:
        thresholds = steps(style.threshold).build()
        return {"thresholds": thresholds, "color": {"mode": "thresholds"}}
    if style.scheme is not None:
        return {"color": {"mode": style.scheme}}
    colour = style.colour or (colours.GREY if style.neutral else None)
    return {} if colour is None else {"color": {"mode": "fixed", "fixedColor": colour}}


def _custom_properties(style: Style) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if style.cell == "sparkline":
        properties["min"] = 0
    if style.width is not None:
        properties["custom.width"] = style.width
    if style.cell is not None:
        properties["custom.cellOptions"] = _cell(style)
    if style.line == "dashed":
        properties |= {
            "custom.drawStyle": "line",
            "custom.lineStyle": {"fill": "dash", "dash": [6, 6]},
            "custom.fillOpacity": 0,
            "custom.lineWidth": 1,
            "custom.stacking": {"mode": "none", "group": "A"},
        }
    elif style.line == "lines":
        properties |= {"custom.drawStyle": "line", "custom.lineWidth": 2, "custom.fillOpacity": 0}
    if style.right_axis:
        properties["custom.axisPlacement"] = "right"
    return properties


def _cell(style: Style) -> object:
    if style.cell == "sparkline":
        return {
            "type": "sparkline",
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20,
            "showPoints": "never",
            "hideValue": True,
            "lineColor": style.colour or colours.BLUE,
        }
    if style.cell == "gauge":
        return {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    return {"type": style.cell}


def _link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).url(url)


def _reduce(calc: str) -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs([calc]).fields("").values(False)


def _stat(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Stat)
    graph = c.BigValueGraphMode.AREA if look.sparkline else c.BigValueGraphMode.NONE
    return (
        stat.Panel()
        .graph_mode(graph)
        .color_mode(c.BigValueColorMode.VALUE)
        .reduce_options(_reduce(look.calc))
        .text_mode(c.BigValueTextMode.VALUE)
        .justify_mode(c.BigValueJustifyMode.AUTO)
        .orientation(c.VizOrientation.HORIZONTAL)
        .wide_layout(True)
        .color_scheme(builders.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
    )


def _legend(look: Chart) -> common.VizLegendOptions:
    mode = c.LegendDisplayMode.TABLE if look.legend_calcs else c.LegendDisplayMode.LIST
    place = c.LegendPlacement.RIGHT if look.legend_right else c.LegendPlacement.BOTTOM
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(mode)
        .placement(place)
        .calcs(list(look.legend_calcs))
    )


def _chart(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Chart)
    built = (
        timeseries.Panel()
        .legend(_legend(look))
        .tooltip(
            common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
        )
        .draw_style(c.GraphDrawStyle.BARS if look.bars else c.GraphDrawStyle.LINE)
        .line_width(0 if look.bars else 2)
        .fill_opacity(80 if look.bars else look.fill)
        .show_points(c.VisibilityMode.NEVER)
        .line_interpolation(
            c.LineInterpolation.STEP_AFTER if look.step else c.LineInterpolation.LINEAR
        )
        .gradient_mode(c.GraphGradientMode.OPACITY)
        .span_nulls(False)
        .axis_border_show(False)
        .bar_width_factor(0.8)
        .color_scheme(builders.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )
    if look.stacked:
        built.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if look.minimum is not None:
        built.min(look.minimum)
    if look.maximum is not None:
        built.max(look.maximum)
    if look.limits:
        built.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    return built


def _bars(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Bars)
    built = (
        bargauge.Panel()
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(_reduce("lastNotNull"))
        .value_mode(c.BarGaugeValueMode.TEXT)
        .show_unfilled(True)
        .min(0)
        .name_placement(c.BarGaugeNamePlacement.LEFT)
        .sizing(c.BarGaugeSizing.AUTO)
        .min_viz_height(14)
        .max_viz_height(90)
        .color_scheme(
            builders.FieldColor().mode(
                d.FieldColorModeId.THRESHOLDS
                if panel.threshold
                else d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
            )
        )
    )
    return built if look.maximum is None else built.max(look.maximum)


def _pie(panel: Panel) -> Any:
    shown = pie_models.PieChartLegendValues
    return (
        piechart.Panel()
        .pie_type(pie_models.PieChartType.DONUT)
        .reduce_options(_reduce("lastNotNull"))
        .display_labels([])
        .legend(
            piechart.PieChartLegendOptions()
            .show_legend(True)
            .display_mode(c.LegendDisplayMode.TABLE)
            .placement(c.LegendPlacement.RIGHT)
            .values([shown.PERCENT, shown.VALUE])
        )
        .tooltip(
            common.VizTooltipOptions().mode(c.TooltipDisplayMode.SINGLE).sort(c.SortOrder.NONE)
        )
        .color_scheme(builders.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )


NARROWEST = 50  # pixels of a column; at Grafana's 150 a table of eight needs scrolling


def _grid(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Grid)
    built = (
        table.Panel()
        .show_header(True)
        .cell_height(c.TableCellHeight.MD if look.tall else c.TableCellHeight.SM)
    )
    built.color_scheme(builders.FieldColor().mode(d.FieldColorModeId.THRESHOLDS)).inspect(
        False
    ).align(c.FieldTextAlignment.AUTO).min_width(NARROWEST)
    # the panel's own words are for a table without rows
    built.override_by_regexp("/.*/", [d.DynamicConfigValue("noValue", "-")])
    if look.sort:
        name, descending = look.sort
        built.sort_by([common.TableSortByFieldState().display_name(name).desc(descending)])
    return built


def _heat(panel: Panel) -> Any:
    return (
        heatmap.Panel()
        .calculate(False)
        .cell_gap(1)
        .show_y_histogram()
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Viridis")
            .steps(64)
            .reverse(False)
        )
        .y_axis(heatmap.YAxisConfig().unit(str(panel.unit)).decimals(panel.decimals))
        .cell_values(heatmap.CellValues().unit("short").decimals(0))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(c.HeatmapCellLayout.AUTO))
    )


def _prose(panel: Panel) -> Any:
    assert isinstance(panel.look, Prose)
    return text.Panel().mode(text_models.TextMode.MARKDOWN).content(panel.look.markdown)


def _alarms(panel: Panel) -> Any:
    states = {"firing": True, "pending": True, "error": True, "noData": True, "normal": False}
    return (
        builders.Panel()
        .type("alertlist")
        .options(
            {
                "viewMode": "list",
                "groupMode": "default",
                "maxItems": 20,
                "sortOrder": 3,  # the most important first
                "dashboardAlerts": False,
                "folder": None,
                "stateFilter": states,
            }
        )
    )


LOOKS = {
    Stat: _stat,
    Chart: _chart,
    Bars: _bars,
    Pie: _pie,
    Grid: _grid,
    Heat: _heat,
    Prose: _prose,
    Alarms: _alarms,
}
