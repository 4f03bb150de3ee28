"""From our panels to Grafana's: one function for each look, over the SDK's typed builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from grafana_foundation_sdk.builders import (
    dashboard as builders,
)
from grafana_foundation_sdk.models import bargauge as bargauge_models  # noqa: F401  registers how bar gauges load
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import piechart as pie_models
from grafana_foundation_sdk.models import text as text_models

from grafana import colours
from grafana.currency import UNIT_REF, unit_query
from grafana.panels import Bars, Chart, Grid, Heat, Panel, Pie, Prose, Stat, Style, Unit
from grafana.queries import PROMETHEUS, TIMESCALE, Prom, Query
from grafana.thresholds import Threshold, Worse

MIN_INTERVAL = "1m"  # nothing in the tables is finer


def build(panel: Panel, number: int, at: d.GridPos) -> Any:
    """Grafana's panel. `number` is its id on the board."""
    made: Any = LOOKS[type(panel.look)](panel)
    made.id(number).title(panel.title).description(panel.words.description).grid_pos(at)
    if isinstance(panel.look, Prose):
        return made
    queries = queries_of(panel)
    made.datasource(PROMETHEUS if all(isinstance(q, Prom) for q in queries) else TIMESCALE)
    made.targets([q.target() for q in queries]).interval(MIN_INTERVAL if panel.sql else "15s")
    made.unit("short" if panel.unit is Unit.MONEY else str(panel.unit)).decimals(
        panel.decimals
    ).no_value(panel.words.nothing)
    made.thresholds(steps(panel.threshold))
    for done in transformations(panel):
        made.with_transformation(done)
    for style in panel.styles:
        if properties := properties_of(style, panel):
            pattern = style.name.startswith("/")
            matcher = d.MatcherConfig("byRegexp" if pattern else "byName", style.name)
            made.with_override(matcher, properties)
    if panel.link:
        made.data_links([link(*panel.link)])
    return made


def queries_of(panel: Panel) -> tuple[Query, ...]:
    """The panel's queries, and the one that names its currency."""
    return (*panel.queries, unit_query()) if panel.money else panel.queries


def steps(threshold: Threshold | None) -> builders.ThresholdsConfig:
    """Green, amber and red in Grafana's order: from the lowest value up."""
    if threshold is None:
        found = [d.Threshold(None, colours.GREEN)]
    elif threshold.worse is Worse.ABOVE:
        watch = [] if threshold.watch is None else [d.Threshold(threshold.watch, colours.AMBER)]
        found = [d.Threshold(None, colours.GREEN), *watch, d.Threshold(threshold.act, colours.RED)]
    else:
        act = threshold.act
        watch = [] if threshold.watch is None else [d.Threshold(act, colours.AMBER)]
        good = act if threshold.watch is None else threshold.watch
        found = [d.Threshold(None, colours.RED), *watch, d.Threshold(good, colours.GREEN)]
    return builders.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(found)


def transformations(panel: Panel) -> list[d.DataTransformerConfig]:
    found = []
    if isinstance(panel.look, Pie) or (isinstance(panel.look, Bars) and panel.look.rows):
        only = d.MatcherConfig("byRefId", panel.queries[0].ref)
        found.append(d.DataTransformerConfig("rowsToFields", filter_val=only, options={}))
    if panel.money:
        found.append(
            d.DataTransformerConfig(
                "configFromData",
                options={
                    "configRefId": UNIT_REF,
                    "mappings": [{"fieldName": "unit", "handlerKey": "unit"}],
                    "applyTo": {"id": "byRegexp", "options": f"/^({'|'.join(panel.money)})$/"},
                },
            )
        )
    if isinstance(panel.look, Grid) and panel.look.join:
        trend = next(q.ref for q in panel.queries if q.ref == "trend")
        found.append(d.DataTransformerConfig("timeSeriesTable", options={trend: {"stat": "sum"}}))
        found.append(
            d.DataTransformerConfig(
                "joinByField", options={"byField": panel.look.join, "mode": "outerTabular"}
            )
        )
    return found


def properties_of(style: Style, panel: Panel) -> list[d.DynamicConfigValue]:
    """Grafana's overrides for a field."""
    found: dict[str, Any] = {}
    if style.title is not None:
        found["displayName"] = style.title
    if style.unit is not None and style.unit is not Unit.MONEY:
        found["unit"] = str(style.unit)
    if style.decimals is not None:
        found["decimals"] = style.decimals
    if style.maximum is not None:
        found |= {"min": 0, "max": style.maximum}
    if style.threshold is not None:
        found["thresholds"] = steps(style.threshold).build()
        found["color"] = {"mode": "thresholds"}
    elif style.neutral:
        found["color"] = {"mode": "fixed", "fixedColor": style.colour or colours.GREY}
    elif style.colour is not None:
        found["color"] = {"mode": "fixed", "fixedColor": style.colour}
    if style.cell == "sparkline":
        found["min"] = 0
    if style.width is not None:
        found["custom.width"] = style.width
    if style.cell is not None:
        found["custom.cellOptions"] = cell(style)
    if style.line == "dashed":
        found |= {
            "custom.drawStyle": "line",
            "custom.lineStyle": {"fill": "dash", "dash": [6, 6]},
            "custom.fillOpacity": 0,
            "custom.lineWidth": 1,
            "custom.stacking": {"mode": "none", "group": "A"},
        }
    elif style.line == "lines":
        found |= {"custom.drawStyle": "line", "custom.lineWidth": 2, "custom.fillOpacity": 0}
    if style.right_axis:
        found["custom.axisPlacement"] = "right"
    if style.link is not None:
        found["links"] = [link(*style.link).build()]
    return [d.DynamicConfigValue(name, value) for name, value in found.items()]


def cell(style: Style) -> object:
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


def link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).url(url)


def reduce(calc: str) -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs([calc]).fields("").values(False)


def stat_panel(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Stat)
    graph = c.BigValueGraphMode.AREA if look.sparkline else c.BigValueGraphMode.NONE
    several = len(panel.queries) > 1 or len(panel.styles) > 1
    return (
        stat.Panel()
        .graph_mode(graph)
        .color_mode(c.BigValueColorMode.VALUE)
        .reduce_options(reduce(look.calc))
        .text_mode(c.BigValueTextMode.VALUE_AND_NAME if several else c.BigValueTextMode.VALUE)
        .justify_mode(c.BigValueJustifyMode.AUTO)
        .orientation(c.VizOrientation.HORIZONTAL)
        .wide_layout(True)
        .color_scheme(builders.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
    )


def legend(look: Chart) -> common.VizLegendOptions:
    mode = c.LegendDisplayMode.TABLE if look.legend_calcs else c.LegendDisplayMode.LIST
    place = c.LegendPlacement.RIGHT if look.legend_right else c.LegendPlacement.BOTTOM
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(mode)
        .placement(place)
        .calcs(list(look.legend_calcs))
    )


def chart_panel(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Chart)
    made = (
        timeseries.Panel()
        .legend(legend(look))
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
        made.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if look.minimum is not None:
        made.min(look.minimum)
    if look.maximum is not None:
        made.max(look.maximum)
    if look.limits:
        made.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    return made


def bars_panel(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Bars)
    made = (
        bargauge.Panel()
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(reduce("lastNotNull"))
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
    return made if look.maximum is None else made.max(look.maximum)


def pie_panel(panel: Panel) -> Any:
    shown = pie_models.PieChartLegendValues
    return (
        piechart.Panel()
        .pie_type(pie_models.PieChartType.DONUT)
        .reduce_options(reduce("lastNotNull"))
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


def grid_panel(panel: Panel) -> Any:
    look = panel.look
    assert isinstance(look, Grid)
    made = (
        table.Panel()
        .show_header(True)
        .cell_height(c.TableCellHeight.MD if look.tall else c.TableCellHeight.SM)
    )
    made.color_scheme(builders.FieldColor().mode(d.FieldColorModeId.THRESHOLDS)).inspect(
        False
    ).align(c.FieldTextAlignment.AUTO)
    if look.sort:
        name, descending = look.sort
        made.sort_by([common.TableSortByFieldState().display_name(name).desc(descending)])
    return made


def heat_panel(panel: Panel) -> Any:
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


def prose_panel(panel: Panel) -> Any:
    assert isinstance(panel.look, Prose)
    return text.Panel().mode(text_models.TextMode.MARKDOWN).content(panel.look.markdown)


LOOKS = {
    Stat: stat_panel,
    Chart: chart_panel,
    Bars: bars_panel,
    Pie: pie_panel,
    Grid: grid_panel,
    Heat: heat_panel,
    Prose: prose_panel,
}


def every(panels: Sequence[Panel]) -> list[Query]:
    return [q for p in panels for q in queries_of(p)]
