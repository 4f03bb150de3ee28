"""A drawing per look, in the box of its panel."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from grafana import colours
from grafana.macros import Surroundings, interpolate
from grafana.panels import Alarms, Bars, Chart, Grid, Heat, Pie, Prose, Stat, Style
from tools.pictures.canvas import Box, Ink, shortened, write
from tools.pictures.charts import chart, heat, sparkline
from tools.pictures.formats import NOTHING
from tools.pictures.theme import BORDER, FAINT, LINK, PANEL, TEXT, TRACK, threshold_colour
from tools.pictures.view import View, reduced

TREND = "Trend #trend"  # Grafana's name for the column of sparklines


def draw(view: View, around: Surroundings) -> None:
    """Draw a panel: its frame and title, and its look or why there is nothing to see."""
    panel, data = view.panel, view.data
    view.page.frame(view.box, interpolate(panel.title, around, str))
    inside = replace(view, box=view.box.inner(8, 26, 8, 6))
    if isinstance(panel.look, Prose):
        _prose(inside, panel.look.markdown)
    elif isinstance(panel.look, Alarms):
        _nothing(inside, "what fires is listed here")
    elif data.missing or not (data.rows or any(data.series.values())):
        _nothing(inside, data.missing or panel.words.nothing)
    else:
        LOOKS[type(panel.look)](inside)


def _nothing(view: View, reason: str) -> None:
    box = view.box
    text = "\n".join(textwrap.wrap(reason, int(box.w / 6)))
    write(view.page.blank(box), box.w / 2, box.h / 2, text, Ink(FAINT, 8.5, "center"))


def _stat(view: View) -> None:
    look, data, box = view.panel.look, view.data, view.box
    assert isinstance(look, Stat)
    numbers = [(name, reduced(points, look.calc)) for name, points in data.series.items()]
    numbers += [item for row in (*data.rows, *data.more_rows) for item in row.items()]
    lines = [(name, points) for name, points in data.series.items() if len(points) > 2]
    axes = view.page.blank(box)
    if len(numbers) == 1:
        (name, value), middle = numbers[0], box.h * (0.36 if lines else 0.5)
        ink = Ink(view.value_colour(name, value), 24, "center", bold=True)
        write(axes, box.w / 2, middle, _stat_text(view, name, value, first=True), ink)
    else:
        height = box.h / max(len(numbers), 1)
        for i, (name, value) in enumerate(numbers):
            _stat_row(axes, view, (name, value), i, height)
    if look.sparkline and lines:
        (name, points), several = lines[0], len(numbers) > 1
        top = box.h * (0.5 if several else 0.62)
        colour = view.value_colour(name, reduced(points, look.calc))
        below = view.page.axes(box.inner(-4, top, -4, 18 if several else 0))
        sparkline(below, points, colour)


def _stat_row(
    axes: Axes, view: View, number: tuple[str, float | None], i: int, height: float
) -> None:
    # the first number of a series is big, further ones are below its line; rows are a list
    (name, value), box, has_line = number, view.box, bool(view.data.series)
    text, colour = _stat_text(view, name, value, first=i == 0), view.value_colour(name, value)
    if i and has_line:
        write(axes, 4, box.h - 8, text, Ink(colour, 10, bold=True))
        write(axes, box.w - 4, box.h - 8, shortened(name, box.w * 0.72), Ink(FAINT, 7, "right"))
        return
    y = height * (i + 0.5)
    write(axes, 4, y, text, Ink(colour, 13 if i else 20, bold=True))
    if not has_line:
        write(axes, box.w - 4, y, shortened(name, box.w * 0.5), Ink(FAINT, 7.5, "right"))


def _stat_text(view: View, name: str, value: float | None, first: bool) -> str:
    if value is not None:
        return view.formatted(name, value)
    return view.panel.words.nothing if first else NOTHING


def _bars(view: View) -> None:
    look, box = view.panel.look, view.box
    assert isinstance(look, Bars)
    axes = view.page.blank(box)
    rows = view.named_numbers()
    most = look.maximum or max(value for _, value in rows) or 1
    left = min(max(len(name) for name, _ in rows) * 6.6 + 12, box.w * 0.45)
    height = min(box.h / len(rows), 70)
    room = box.w - left - 78
    for i, (name, value) in enumerate(rows):
        y, thick = height * i + 3, height - 7
        threshold = view.panel.threshold
        colour = threshold_colour(value, threshold) if threshold else view.colour(name)
        write(axes, left - 8, y + thick / 2, shortened(name, left, 5.2), Ink(align="right"))
        axes.add_patch(Rectangle((left, y), room, thick, color=TRACK))
        length = max(room * value / most, 1.5)
        axes.imshow(
            np.linspace(0.35, 1, 64)[None, :],
            extent=(left, left + length, y + thick, y),
            aspect="auto",
            cmap=LinearSegmentedColormap.from_list("shade", [PANEL, colour]),
            vmin=0,
            vmax=1,
            zorder=3,
        )
        number = Ink(colour, 9, "right", bold=True)
        write(axes, box.w - 4, y + thick / 2, view.formatted(name, value), number)
    axes.set_xlim(0, box.w)
    axes.set_ylim(box.h, 0)


def _pie(view: View) -> None:
    rows, box = view.named_numbers(), view.box
    side = min(box.h - 8, box.w * 0.46)
    axes = view.page.axes(Box(box.x + 4, box.y + (box.h - side) / 2, side, side))
    slices = [view.colour(name) for name, _ in rows]
    axes.pie(
        [value for _, value in rows],
        colors=slices,
        startangle=90,
        counterclock=False,
        wedgeprops={"width": 0.38, "edgecolor": PANEL, "linewidth": 1},
    )
    legend = view.page.blank(Box(box.x + side + 20, box.y, box.w - side - 20, box.h))
    total = sum(value for _, value in rows) or 1
    top = box.h / 2 - 9 * len(rows)
    for i, (name, value) in enumerate(rows):
        y = top + 18 * i + 9
        legend.add_patch(Rectangle((0, y - 2), 10, 4, color=slices[i]))
        write(legend, 16, y, name, Ink())
        share = f"{100 * value / total:.0f} %"
        write(legend, box.w - side - 90, y, share, Ink(align="right"))
        text = view.formatted(name, value)
        write(legend, box.w - side - 26, y, text, Ink(FAINT, align="right"))


def _grid(view: View) -> None:
    box, rows = view.box, view.data.rows
    axes = view.page.blank(box)
    columns = _columns(view)
    for name, (left, width) in columns.items():
        style = view.style(name)
        title = shortened(style.title if style and style.title else name, width - 6)
        if _is_number(rows[0].get(name)):
            write(axes, left + width - 8, 9, title, Ink(LINK, 7.8, "right"))
        else:
            write(axes, left + 6, 9, title, Ink(LINK, 7.8))
    for i, row in enumerate(rows):
        y = 28 + 22 * i
        if y > box.h - 6:
            break
        axes.plot((0, box.w), (y - 11, y - 11), color=BORDER, lw=0.6)
        for name, (left, width) in columns.items():
            cell = Box(left, y - 10, width, 20)
            if name == TREND:
                _trend_cell(view, row, cell)
            else:
                _cell(axes, view, name, row[name], cell)


def _columns(view: View) -> dict[str, tuple[float, float]]:
    # left edge and width of each column: what styles leave is shared by the others
    names = list(view.data.rows[0]) + ([TREND] if view.data.trends else [])
    fixed = {n: float(s.width) for n in names if (s := view.style(n)) and s.width}
    free, taken = len(names) - len(fixed), sum(fixed.values())
    shared = max((view.box.w - taken) / max(free, 1), 30)
    widths = {name: fixed.get(name, shared) for name in names}
    too_wide = not free or taken > view.box.w
    scale = min(view.box.w / sum(widths.values()), 1.0) if too_wide else 1.0
    columns, x = {}, 0.0
    for name, width in widths.items():
        columns[name] = (x, width * scale)
        x += width * scale
    return columns


def _is_number(value: object) -> bool:
    return value is not None and not isinstance(value, str | datetime)


def _trend_cell(view: View, row: dict[str, Any], cell: Box) -> None:
    look, style = view.panel.look, view.style(TREND)
    assert isinstance(look, Grid)
    points = view.data.trends.get(str(row[str(look.join)]), [])
    if len(points) > 1:
        place = Box(view.box.x + cell.x + 4, view.box.y + cell.y + 2, cell.w - 8, cell.h - 4)
        colour = style.colour if style and style.colour else colours.BLUE
        sparkline(view.page.axes(place), points, colour, floor=True)


def _cell(axes: Axes, view: View, name: str, value: Any, cell: Box) -> None:
    style, middle = view.style(name), cell.y + cell.h / 2
    text = view.formatted(name, value)
    if not _is_number(value):
        text = shortened(text.replace("\n", " "), cell.w - 8, 5.0)
        write(axes, cell.x + 6, middle, text, Ink(size=7.8))
        return
    colour = _cell_colour(style, value)
    if style and style.cell == "gauge":
        room, height = cell.w - 74, cell.h - 6
        length = max(room * min(value / (style.maximum or 1), 1), 1)
        corner = (cell.x + 4, cell.y + 3)
        axes.add_patch(Rectangle(corner, room, height, color=TRACK))
        axes.add_patch(Rectangle(corner, length, height, color=colour, alpha=0.75))
    write(axes, cell.x + cell.w - 8, middle, text, Ink(colour, 7.8, "right"))


def _cell_colour(style: Style | None, value: float) -> str:
    if style and style.threshold:
        return threshold_colour(value, style.threshold)
    return style.colour if style and style.colour else TEXT


def _prose(view: View, markdown: str) -> None:
    axes = view.page.blank(view.box)
    links_as_text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)
    plain = re.sub(r"[*`]", "", links_as_text)
    y = 8.0
    for line in plain.splitlines():
        for part in textwrap.wrap(line, int(view.box.w / 6.4)):
            write(axes, 4, y, part, Ink())
            y += 15


LOOKS: dict[type, Callable[[View], None]] = {
    Stat: _stat,
    Chart: chart,
    Bars: _bars,
    Pie: _pie,
    Grid: _grid,
    Heat: heat,
}
