"""The looks over time: lines and bars with their legend, heat maps, and the small line of a number.

Moments are on matplotlib's scale of days since 1970.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import matplotlib.dates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from grafana import colours
from grafana.panels import Chart, Style, Unit
from tools.pictures.canvas import Box, Ink, shortened, strip, write
from tools.pictures.data import Points
from tools.pictures.formats import formatted
from tools.pictures.theme import GRID, LINK
from tools.pictures.view import View, reduced

DATES: Any = matplotlib.dates  # half of it has no types
DAY_SECONDS = 86_400
LEGEND_TITLES = {
    "sum": "Total",
    "lastNotNull": "Last *",
    "max": "Max",
    "min": "Min",
    "mean": "Mean",
}
Numbers = NDArray[np.float64]


def sparkline(axes: Axes, points: Points, colour: str, floor: bool = False) -> None:
    """Draw a line without scales; with `floor` the area under it reaches down to zero."""
    axes.set_xticks([])
    axes.set_yticks([])
    x, y = np.array([moment.timestamp() for moment, _ in points]), _values(points)
    axes.plot(x, y, color=colour, lw=1.1)
    low = min(np.nanmin(y), 0) if floor else np.nanmin(y)
    axes.fill_between(x, y, low, color=colour, alpha=0.16, lw=0)
    axes.margins(x=0, y=0.08)


def chart(view: View) -> None:
    """Draw lines or bars over time, and their legend below."""
    look, box = view.panel.look, view.box
    assert isinstance(look, Chart)
    entries = min(max(len(view.data.series), 1), 8)
    legend_height = 4 + (15 * entries + 14 if look.legend_calcs else 16)
    room = min(legend_height, box.h * 0.42)
    right_margin = 44 if any(s.right_axis for s in view.panel.styles) else 6
    axes = view.page.axes(box.inner(46, 6, right_margin, room + 18))
    plot = _Plot(axes, look, _bar_width(max(view.data.series.values(), key=len)))
    right: _Plot | None = None
    for name, points in view.data.series.items():
        style = view.style(name)
        if style and style.right_axis:
            right = right or _Plot(_right_axes(axes, view, name), look, plot.width)
            right.draw(points, style, view.colour(name))
        else:
            plot.draw(points, style, view.colour(name))
    _dress(axes, view, look)
    _legend(view, look, Box(box.x, box.y + box.h - room, box.w, room))


class _Plot:
    """Axes on which series are drawn one after the other.

    State: the heights so far at each moment, on which stacked series stand.
    """

    def __init__(self, axes: Axes, look: Chart, width: float) -> None:
        self.axes, self.look, self.width = axes, look, width
        self._heights: dict[float, float] = {}

    def draw(self, points: Points, style: Style | None, colour: str) -> None:
        x, y = np.array([_days(moment) for moment, _ in points]), _values(points)
        line = style.line if style else None
        if line == "dashed":
            self.axes.plot(x, y, color=colour, lw=1, ls=(0, (4, 3)), zorder=5)
        elif self.look.bars and line != "lines":
            self._bars(x, np.nan_to_num(y), colour)
        elif self.look.stacked:
            self._area(x, np.nan_to_num(y), colour)
        else:
            self._line(x, y, colour)

    def _stacked(self, x: Numbers, y: Numbers) -> Numbers:
        # where this series begins; the next one begins on it
        bottoms = np.array([self._heights.get(moment, 0.0) for moment in x])
        self._heights |= dict(zip(x.tolist(), (bottoms + y).tolist(), strict=True))
        return bottoms

    def _bars(self, x: Numbers, y: Numbers, colour: str) -> None:
        bottoms = self._stacked(x, y) if self.look.stacked else 0
        self.axes.bar(
            x,
            y,
            width=self.width * 0.8,
            bottom=bottoms,
            color=colour,
            alpha=0.85,
            align="edge",
            lw=0,
        )

    def _area(self, x: Numbers, y: Numbers, colour: str) -> None:
        bottoms = self._stacked(x, y)
        self.axes.fill_between(x, bottoms, bottoms + y, color=colour, alpha=0.4, lw=0)
        self.axes.plot(x, bottoms + y, color=colour, lw=1)

    def _line(self, x: Numbers, y: Numbers, colour: str) -> None:
        if self.look.step:
            self.axes.step(x, y, where="post", color=colour, lw=1.3)
        else:
            self.axes.plot(x, y, color=colour, lw=1.3)
        if self.look.fill:
            alpha = self.look.fill / 150
            self.axes.fill_between(x, np.nan_to_num(y), 0, color=colour, alpha=alpha, lw=0)


def heat(view: View) -> None:
    """Draw a histogram over time.

    Shape: Prometheus' buckets count from below, so each is less the one under it.
    """
    axes = view.page.axes(view.box.inner(46, 6, 6, 22))
    series = view.data.series
    bounds = sorted(series, key=lambda bound: float(bound.replace("+Inf", "inf")))
    counts = np.array([[v or 0 for _, v in series[bound]] for bound in bounds], dtype=float)
    counts = np.diff(counts, axis=0, prepend=0)
    moments = [_days(moment) for moment, _ in series[bounds[0]]]
    axes.imshow(
        np.where(counts > 0, counts, np.nan),
        aspect="auto",
        origin="lower",
        cmap="viridis",
        extent=(moments[0], moments[-1], 0, len(bounds)),
        interpolation="nearest",
    )
    every = max(len(bounds) // 6, 1)
    axes.set_yticks(range(1, len(bounds) + 1, every), bounds[::every])
    _time_axis(axes)


def _values(points: Points) -> Numbers:
    return np.array([np.nan if v is None else v for _, v in points], dtype=float)


def _days(moment: datetime) -> float:
    return moment.timestamp() / DAY_SECONDS


def _bar_width(points: Points) -> float:
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(points)]
    return min(gaps).total_seconds() / DAY_SECONDS if gaps else 1 / 1_440


def _right_axes(axes: Axes, view: View, name: str) -> Axes:
    right = axes.twinx()
    strip(right)
    right.yaxis.set_major_formatter(FuncFormatter(lambda v, _: view.formatted(name, v)))
    right.yaxis.set_major_locator(MaxNLocator(4))
    values = [v for _, v in view.data.series[name] if v is not None]
    right.set_ylim(0, 2.5 * max(values, default=1) or 1)  # below the bars
    return right


def _time_axis(axes: Axes) -> None:
    locator = DATES.AutoDateLocator(minticks=3, maxticks=8, tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DATES.ConciseDateFormatter(locator, tz=UTC, show_offset=False))


def _dress(axes: Axes, view: View, look: Chart) -> None:
    # grid, scales and limits
    unit, decimals = view.unit(next(iter(view.data.series)))
    axes.grid(axis="both", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=2, integer=unit == Unit.WHOLE))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _on_axis(v, unit, decimals)))
    _time_axis(axes)
    axes.margins(x=0)
    low, high = axes.get_ylim()
    low = low if look.minimum is None else look.minimum
    high = high if look.maximum is None else look.maximum
    if look.limits:
        _draw_limits(axes, view)
    axes.set_ylim(low, high if high > low else low + 1)
    moments = [moment for points in view.data.series.values() for moment, _ in points]
    if moments:
        axes.set_xlim(_days(min(moments)), _days(max(moments)) + 1e-6)


def _draw_limits(axes: Axes, view: View) -> None:
    threshold = view.panel.threshold
    if threshold is None:
        return
    for limit, colour in ((threshold.watch, colours.AMBER), (threshold.act, colours.RED)):
        if limit is not None:
            axes.axhline(limit, color=colour, lw=1, ls=(0, (5, 4)), alpha=0.8)


def _on_axis(value: float, unit: str, decimals: int) -> str:
    # as short as the number allows: Grafana has more room
    if unit.startswith("currency"):
        return formatted(value, unit, 0 if value == round(value) and abs(value) < 1_000 else 1)
    if unit == Unit.WHOLE:
        return formatted(value, Unit.WHOLE, 0)
    return formatted(value, unit, min(decimals, 2))


def _legend(view: View, look: Chart, box: Box) -> None:
    axes = view.page.blank(box)
    if look.legend_calcs:
        _legend_table(axes, view, look, box)
        return
    x = 4.0
    for name in view.data.series:
        axes.add_patch(Rectangle((x, 8), 10, 3, color=view.colour(name)))
        write(axes, x + 14, 10, name, Ink(size=7.5))
        x += 26 + 6.1 * len(name)


def _legend_table(axes: Axes, view: View, look: Chart, box: Box) -> None:
    calcs = look.legend_calcs
    columns = [box.w - 8 - 82 * (len(calcs) - 1 - i) for i in range(len(calcs))]
    write(axes, 4, 6, "Name", Ink(LINK, 7))
    for x, calc in zip(columns, calcs, strict=True):
        write(axes, x, 6, LEGEND_TITLES[calc], Ink(LINK, 7, "right"))
    for i, (name, points) in enumerate(view.data.series.items()):
        y = 20 + 15 * i
        if y > box.h - 4:
            break
        axes.add_patch(Rectangle((4, y - 1.5), 10, 3, color=view.colour(name)))
        write(axes, 18, y, shortened(name, columns[0] - 80), Ink(size=7.5))
        for x, calc in zip(columns, calcs, strict=True):
            text = view.formatted(name, reduced(points, calc))
            write(axes, x, y, text, Ink(size=7.5, align="right"))
