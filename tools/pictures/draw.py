"""A drawing for each look, in the box of its panel. Boxes are in pixels from the top left, as
people read.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import matplotlib.dates as dates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from grafana import colours
from grafana.macros import Surroundings, interpolate
from grafana.panels import Bars, Chart, Grid, Heat, Panel, Pie, Prose, Stat, Unit
from tools.pictures.data import Data, Points
from tools.pictures.theme import BORDER, FAINT, GRID, LINK, PANEL, TEXT, colour_of, judged, style_of
from tools.pictures.words import NOTHING, written


@dataclass(frozen=True)
class Box:
    """Units: pixels of the page."""

    x: float
    y: float
    w: float
    h: float

    def inner(self, left: float, top: float, right: float, bottom: float) -> Box:
        return Box(self.x + left, self.y + top, self.w - left - right, self.h - top - bottom)


@dataclass(frozen=True)
class Page:
    figure: Figure
    width: float
    height: float

    def axes(self, box: Box) -> Axes:
        made = self.figure.add_axes(
            (
                box.x / self.width,
                1 - (box.y + box.h) / self.height,
                box.w / self.width,
                box.h / self.height,
            )
        )
        made.set_facecolor("none")
        for spine in made.spines.values():
            spine.set_visible(False)
        made.tick_params(colors=FAINT, labelsize=7, length=0)
        return made

    def blank(self, box: Box) -> Axes:
        made = self.axes(box)
        made.set_axis_off()
        made.set_xlim(0, box.w)
        made.set_ylim(box.h, 0)
        return made

    def frame(self, box: Box, title: str) -> None:
        axes = self.blank(box)
        axes.add_patch(
            FancyBboxPatch(
                (0.5, 0.5),
                box.w - 1,
                box.h - 1,
                boxstyle="round,pad=0,rounding_size=3",
                fc=PANEL,
                ec=BORDER,
                lw=0.8,
            )
        )
        axes.text(9, 14, shortened(title, box.w - 18, 6.4), color=TEXT, fontsize=8.5, va="center")


def shortened(text: str, width: float, letter: float = 5.4) -> str:
    most = max(int(width / letter), 1)
    return text if len(text) <= most else text[: most - 1] + "…"


def draw(page: Page, box: Box, panel: Panel, data: Data, around: Surroundings) -> None:
    page.frame(box, interpolate(panel.title, around, str))
    inside = box.inner(8, 26, 8, 6)
    if isinstance(panel.look, Prose):
        prose(page, inside, panel.look.markdown)
    elif data.missing or not (data.rows or any(data.series.values())):
        axes = page.blank(inside)
        text = data.missing or panel.words.nothing
        said = "\n".join(textwrap.wrap(text, int(inside.w / 6)))
        axes.text(
            inside.w / 2, inside.h / 2, said, color=FAINT, fontsize=8.5, ha="center", va="center"
        )
    else:
        LOOKS[type(panel.look)](page, inside, panel, data)


def unit_of(panel: Panel, data: Data, name: str) -> tuple[str, int]:
    """Unit and decimals of a field, as overrides leave them."""
    style = style_of(panel, name)
    unit = style.unit if style and style.unit else panel.unit
    decimals = style.decimals if style and style.decimals is not None else panel.decimals
    if style and style.unit and style.decimals is None and unit is not Unit.CURRENCY:
        decimals = 0 if unit in (Unit.WHOLE, Unit.BYTES) else decimals
    return (data.unit or str(unit)) if unit is Unit.CURRENCY else str(unit), decimals


def reduced(points: Points, calc: str) -> float | None:
    values = [v for _, v in points if v is not None and v == v]
    if not values:
        return None
    by = {
        "sum": sum,
        "lastNotNull": lambda v: v[-1],
        "max": max,
        "min": min,
        "mean": lambda v: sum(v) / len(v),
    }
    return float(by[calc](values))  # type: ignore[operator]


def stat(page: Page, box: Box, panel: Panel, data: Data) -> None:
    look = panel.look
    assert isinstance(look, Stat)
    shown = [(name, reduced(points, look.calc)) for name, points in data.series.items()]
    shown += [item for row in (*data.rows, *data.more) for item in row.items()]
    axes = page.blank(box)
    lines = [p for p in data.series.values() if len(p) > 2]
    height = box.h / max(len(shown), 1)
    for i, (name, value) in enumerate(shown):
        style = style_of(panel, name)
        threshold = style.threshold if style and style.threshold else panel.threshold
        tone = (
            (style.colour or colours.GREY) if style and style.neutral else judged(value, threshold)
        )
        unit, decimals = unit_of(panel, data, name)
        text = (
            written(value, unit, decimals)
            if value is not None
            else panel.words.nothing
            if i == 0
            else NOTHING
        )
        if len(shown) == 1:
            axes.text(
                box.w / 2,
                box.h * (0.36 if lines else 0.5),
                text,
                color=tone,
                fontsize=24,
                ha="center",
                va="center",
                fontweight="bold",
            )
        elif i == 0 or not data.series:
            axes.text(
                4,
                height * (i + 0.5),
                text,
                color=tone,
                fontsize=20 if i == 0 else 13,
                va="center",
                fontweight="bold",
            )
            if i or not data.series:
                axes.text(
                    box.w - 4,
                    height * (i + 0.5),
                    shortened(name, box.w * 0.5),
                    color=FAINT,
                    fontsize=7.5,
                    ha="right",
                    va="center",
                )
        else:
            axes.text(4, box.h - 8, text, color=tone, fontsize=10, va="center", fontweight="bold")
            axes.text(
                box.w - 4,
                box.h - 8,
                shortened(name, box.w * 0.72),
                color=FAINT,
                fontsize=7,
                ha="right",
                va="center",
            )
    if look.sparkline and lines:
        top = box.h * (0.5 if len(shown) > 1 else 0.62)
        spark = page.axes(box.inner(-4, top, -4, 18 if len(shown) > 1 else 0))
        spark.set_xticks([])
        spark.set_yticks([])
        name = next(n for n, p in data.series.items() if p is lines[0])
        style = style_of(panel, name)
        value = reduced(lines[0], look.calc)
        tone = (
            (style.colour or colours.GREY)
            if style and style.neutral
            else judged(value, panel.threshold)
        )
        sparkline(spark, lines[0], tone)


def sparkline(axes: Axes, points: Points, tone: str, floor: bool = False) -> None:
    y = np.array([np.nan if v is None else v for _, v in points], dtype=float)
    x = np.array([t.timestamp() for t, _ in points])
    axes.plot(x, y, color=tone, lw=1.1)
    low = min(np.nanmin(y), 0) if floor else np.nanmin(y)
    axes.fill_between(x, y, low, color=tone, alpha=0.16, lw=0)
    axes.margins(x=0, y=0.08)


def chart(page: Page, box: Box, panel: Panel, data: Data) -> None:
    look = panel.look
    assert isinstance(look, Chart)
    names = list(data.series)
    lines_needed = min(max(len(names), 1), 8)
    legend_height = 4 + (15 * lines_needed + 14 if look.legend_calcs else 16)
    room = min(legend_height, box.h * 0.42)
    axes = page.axes(
        box.inner(46, 6, 44 if any(s.right_axis for s in panel.styles) else 6, room + 18)
    )
    moments = [t for points in data.series.values() for t, _ in points]
    width = bar_width([t for t, _ in max(data.series.values(), key=len)])
    base: dict[float, float] = {}
    right: Axes | None = None
    for name, points in data.series.items():
        style = style_of(panel, name)
        tone = colour_of(panel, name)
        x = np.array([dates.date2num(t) for t, _ in points])
        y = np.array([np.nan if v is None else v for _, v in points], dtype=float)
        target = axes
        if style and style.right_axis:
            right = right or twin(axes, panel, data, name)
            target = right
        if style and style.line == "dashed":
            target.plot(x, y, color=tone, lw=1, ls=(0, (4, 3)), zorder=5)
        elif look.bars and not (style and style.line == "lines"):
            bottoms = np.array([base.get(v, 0.0) for v in x]) if look.stacked else 0
            target.bar(
                x,
                np.nan_to_num(y),
                width=width * 0.8,
                bottom=bottoms,
                color=tone,
                alpha=0.85,
                align="edge",
                lw=0,
            )
            if look.stacked:
                base |= {
                    v: base.get(v, 0.0) + (0.0 if n != n else float(n))
                    for v, n in zip(x, y, strict=True)
                }
        elif look.stacked:
            bottoms = np.array([base.get(v, 0.0) for v in x])
            target.fill_between(x, bottoms, bottoms + np.nan_to_num(y), color=tone, alpha=0.4, lw=0)
            target.plot(x, bottoms + np.nan_to_num(y), color=tone, lw=1)
            base |= {v: float(b + np.nan_to_num(n)) for v, b, n in zip(x, bottoms, y, strict=True)}
        else:
            how: Any = target.step if look.step else target.plot
            how(x, y, color=tone, lw=1.3, **({"where": "post"} if look.step else {}))
            if look.fill:
                target.fill_between(x, np.nan_to_num(y), 0, color=tone, alpha=look.fill / 150, lw=0)
    dress(axes, panel, data, look, moments)
    legend(page, Box(box.x, box.y + box.h - room, box.w, room), panel, data, look)


def bar_width(moments: list[datetime]) -> float:
    gaps = [b - a for a, b in pairwise(moments)]
    return min(gaps).total_seconds() / 86_400 if gaps else 1 / 1_440


def twin(axes: Axes, panel: Panel, data: Data, name: str) -> Axes:
    made: Axes = axes.twinx()
    for spine in made.spines.values():
        spine.set_visible(False)
    made.tick_params(colors=FAINT, labelsize=7, length=0)
    unit, decimals = unit_of(panel, data, name)
    made.yaxis.set_major_formatter(FuncFormatter(lambda v, _: written(v, unit, decimals)))
    made.yaxis.set_major_locator(MaxNLocator(4))
    values = [v for _, v in data.series[name] if v is not None]
    made.set_ylim(0, 2.5 * max(values, default=1) or 1)  # below the bars
    return made


def dress(axes: Axes, panel: Panel, data: Data, look: Chart, moments: list[datetime]) -> None:
    """Grid, axes and limits."""
    unit, decimals = unit_of(panel, data, next(iter(data.series)))
    axes.grid(axis="both", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=2, integer=unit in (Unit.WHOLE,)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(
            lambda v, _: written(
                v, Unit.COUNT if unit == Unit.WHOLE else unit, axis_decimals(v, unit, decimals)
            )
        )
    )
    locator = dates.AutoDateLocator(minticks=3, maxticks=8, tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    axes.margins(x=0)
    low, high = axes.get_ylim()
    if look.minimum is not None:
        low = look.minimum
    if look.maximum is not None:
        high = look.maximum
    if look.limits and panel.threshold:
        for limit, tone in (
            (panel.threshold.watch, colours.AMBER),
            (panel.threshold.act, colours.RED),
        ):
            if limit is not None:
                axes.axhline(limit, color=tone, lw=1, ls=(0, (5, 4)), alpha=0.8)
    axes.set_ylim(low, high if high > low else low + 1)
    if moments:
        axes.set_xlim(dates.date2num(min(moments)), dates.date2num(max(moments)) + 1e-6)


def axis_decimals(value: float, unit: str, decimals: int) -> int:
    if unit.startswith("currency"):
        return 0 if value == round(value) and abs(value) < 1000 else 1
    return min(decimals, 2) if unit != Unit.WHOLE else (0 if abs(value) < 1000 else 1)


def legend(page: Page, box: Box, panel: Panel, data: Data, look: Chart) -> None:
    axes = page.blank(box)
    if not look.legend_calcs:
        x = 4.0
        for name in data.series:
            axes.add_patch(Rectangle((x, 8), 10, 3, color=colour_of(panel, name)))
            axes.text(x + 14, 10, name, color=TEXT, fontsize=7.5, va="center")
            x += 26 + 6.1 * len(name)
        return
    titles = {"sum": "Total", "lastNotNull": "Last *", "max": "Max", "min": "Min", "mean": "Mean"}
    columns = [
        box.w - 8 - 82 * (len(look.legend_calcs) - 1 - i) for i in range(len(look.legend_calcs))
    ]
    axes.text(4, 6, "Name", color=LINK, fontsize=7, va="center")
    for x, calc in zip(columns, look.legend_calcs, strict=True):
        axes.text(x, 6, titles[calc], color=LINK, fontsize=7, va="center", ha="right")
    for i, (name, points) in enumerate(data.series.items()):
        y = 20 + 15 * i
        if y > box.h - 4:
            break
        unit, decimals = unit_of(panel, data, name)
        axes.add_patch(Rectangle((4, y - 1.5), 10, 3, color=colour_of(panel, name)))
        axes.text(18, y, shortened(name, columns[0] - 80), color=TEXT, fontsize=7.5, va="center")
        for x, calc in zip(columns, look.legend_calcs, strict=True):
            axes.text(
                x,
                y,
                written(reduced(points, calc), unit, decimals),
                color=TEXT,
                fontsize=7.5,
                va="center",
                ha="right",
            )


def named(panel: Panel, data: Data) -> list[tuple[str, float]]:
    """Name and number of each row."""
    return [(str(next(iter(row.values()))), float(list(row.values())[1] or 0)) for row in data.rows]


def bars(page: Page, box: Box, panel: Panel, data: Data) -> None:
    look = panel.look
    assert isinstance(look, Bars)
    axes = page.blank(box)
    rows = named(panel, data)
    most = look.maximum or max(v for _, v in rows) or 1
    left = min(max(len(n) for n, _ in rows) * 6.6 + 12, box.w * 0.45)
    height = min(box.h / len(rows), 70)
    for i, (name, value) in enumerate(rows):
        y, thick = height * i + 3, height - 7
        unit, decimals = unit_of(panel, data, name)
        tone = judged(value, panel.threshold) if panel.threshold else colour_of(panel, name)
        axes.text(
            left - 8,
            y + thick / 2,
            shortened(name, left, 5.2),
            color=TEXT,
            fontsize=8,
            ha="right",
            va="center",
        )
        room = box.w - left - 78
        axes.add_patch(Rectangle((left, y), room, thick, color="#22252b"))
        length = max(room * value / most, 1.5)
        gradient = np.linspace(0.35, 1, 64)[None, :]
        axes.imshow(
            gradient,
            extent=(left, left + length, y + thick, y),
            aspect="auto",
            cmap=shade(tone),
            vmin=0,
            vmax=1,
            zorder=3,
        )
        axes.text(
            box.w - 4,
            y + thick / 2,
            written(value, unit, decimals),
            color=tone,
            fontsize=9,
            ha="right",
            va="center",
            fontweight="bold",
        )
    axes.set_xlim(0, box.w)
    axes.set_ylim(box.h, 0)


def shade(tone: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shade", [PANEL, tone])


def pie(page: Page, box: Box, panel: Panel, data: Data) -> None:
    rows = named(panel, data)
    side = min(box.h - 8, box.w * 0.46)
    axes = page.axes(Box(box.x + 4, box.y + (box.h - side) / 2, side, side))
    tones = [colour_of(panel, name) for name, _ in rows]
    axes.pie(
        [v for _, v in rows],
        colors=tones,
        startangle=90,
        counterclock=False,
        wedgeprops={"width": 0.38, "edgecolor": PANEL, "linewidth": 1},
    )
    words = page.blank(Box(box.x + side + 20, box.y, box.w - side - 20, box.h))
    total = sum(v for _, v in rows) or 1
    top = box.h / 2 - 9 * len(rows)
    for i, (name, value) in enumerate(rows):
        y = top + 18 * i + 9
        unit, decimals = unit_of(panel, data, name)
        words.add_patch(Rectangle((0, y - 2), 10, 4, color=tones[i]))
        words.text(16, y, name, color=TEXT, fontsize=8, va="center")
        words.text(
            box.w - side - 90,
            y,
            f"{100 * value / total:.0f} %",
            color=TEXT,
            fontsize=8,
            va="center",
            ha="right",
        )
        words.text(
            box.w - side - 26,
            y,
            written(value, unit, decimals),
            color=FAINT,
            fontsize=8,
            va="center",
            ha="right",
        )


def grid(page: Page, box: Box, panel: Panel, data: Data) -> None:
    look = panel.look
    assert isinstance(look, Grid)
    axes = page.blank(box)
    fields = list(data.rows[0]) + (["Trend #trend"] if data.trends else [])
    styles = {name: style_of(panel, name) for name in fields}
    fixed = sum(s.width for s in styles.values() if s and s.width)
    free = [n for n in fields if not ((s := styles[n]) and s.width)]
    each = max((box.w - fixed) / max(len(free), 1), 30)
    widths = {n: (s.width if (s := styles[n]) and s.width else each) for n in fields}
    scale = min(box.w / sum(widths.values()), 1.0) if not free or fixed > box.w else 1.0
    x = 0.0
    places = {}
    for name in fields:
        places[name] = (x, widths[name] * scale)
        x += widths[name] * scale
    for name, (left, width) in places.items():
        style = styles[name]
        right = (
            not isinstance(data.rows[0].get(name), str | datetime | None.__class__)
            and name != "Trend #trend"
        )
        title = shortened((style.title if style and style.title else name), width - 6)
        axes.text(
            left + (width - 8 if right else 6),
            9,
            title,
            color=LINK,
            fontsize=7.8,
            va="center",
            ha="right" if right else "left",
        )
    for i, row in enumerate(data.rows):
        y = 28 + 22 * i
        if y > box.h - 6:
            break
        axes.plot((0, box.w), (y - 11, y - 11), color=BORDER, lw=0.6)
        for name, (left, width) in places.items():
            cell(page, axes, box, panel, data, name, row, Box(left, y - 10, width, 20))


def cell(
    page: Page,
    axes: Axes,
    box: Box,
    panel: Panel,
    data: Data,
    name: str,
    row: dict[str, Any],
    at: Box,
) -> None:
    style = style_of(panel, name)
    middle = at.y + at.h / 2
    if name == "Trend #trend":
        points = data.trends.get(str(row[panel.look.join]))  # type: ignore[union-attr,index]
        if points and len(points) > 1:
            spark = page.axes(Box(box.x + at.x + 4, box.y + at.y + 2, at.w - 8, at.h - 4))
            spark.set_xticks([])
            spark.set_yticks([])
            sparkline(
                spark, points, style.colour if style and style.colour else colours.BLUE, floor=True
            )
        return
    value = row[name]
    unit, decimals = unit_of(panel, data, name)
    text = written(value, unit, decimals)
    if isinstance(value, str | datetime) or value is None:
        axes.text(
            at.x + 6,
            middle,
            shortened(text.replace("\n", " "), at.w - 8, 5.0),
            color=TEXT,
            fontsize=7.8,
            va="center",
            parse_math=False,
        )
        return
    tone = (
        judged(value, style.threshold)
        if style and style.threshold
        else style.colour
        if style and style.colour
        else TEXT
    )
    if style and style.cell == "gauge":
        room = at.w - 74
        axes.add_patch(Rectangle((at.x + 4, at.y + 3), room, at.h - 6, color="#22252b"))
        axes.add_patch(
            Rectangle(
                (at.x + 4, at.y + 3),
                max(room * min(value / (style.maximum or 1), 1), 1),
                at.h - 6,
                color=tone,
                alpha=0.75,
            )
        )
    axes.text(at.x + at.w - 8, middle, text, color=tone, fontsize=7.8, va="center", ha="right")


def heat(page: Page, box: Box, panel: Panel, data: Data) -> None:
    """Buckets from below, less what the bucket under them holds."""
    axes = page.axes(box.inner(46, 6, 6, 22))
    bounds = sorted(data.series, key=lambda le: float(le.replace("+Inf", "inf")))
    table = np.array([[v or 0 for _, v in data.series[b]] for b in bounds], dtype=float)
    table = np.diff(table, axis=0, prepend=0)
    moments = [dates.date2num(t) for t, _ in data.series[bounds[0]]]
    shown = np.where(table > 0, table, np.nan)
    axes.imshow(
        shown,
        aspect="auto",
        origin="lower",
        cmap="viridis",
        extent=(moments[0], moments[-1], 0, len(bounds)),
        interpolation="nearest",
    )
    axes.set_yticks(
        range(1, len(bounds) + 1, max(len(bounds) // 6, 1)),
        [bounds[i] for i in range(0, len(bounds), max(len(bounds) // 6, 1))],
    )
    locator = dates.AutoDateLocator(minticks=3, maxticks=8, tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC, show_offset=False))


def prose(page: Page, box: Box, markdown: str) -> None:
    axes = page.blank(box)
    plain = (
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)
        .replace("**", "")
        .replace("`", "")
        .replace("*", "")
    )
    y = 8.0
    for line in plain.splitlines():
        for part in textwrap.wrap(line, int(box.w / 6.4)):
            axes.text(4, y, part, color=TEXT, fontsize=8, va="center")
            y += 15


LOOKS: dict[type, Callable[[Page, Box, Panel, Data], None]] = {
    Stat: stat,
    Chart: chart,
    Bars: bars,
    Pie: pie,
    Grid: grid,
    Heat: heat,
}
