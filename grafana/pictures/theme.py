"""Grafana's dark look: what panels and letters have for colours, and a colour for each name of an open set."""

from __future__ import annotations

import re
from zlib import crc32

from grafana import colours
from grafana.panels import Panel, Style
from grafana.thresholds import Threshold, Worse

PAGE, PANEL, BORDER, GRID = "#111217", "#181b1f", "#2a2d33", "#2a2d33"
TEXT, FAINT, LINK = "#ccccdc", "#8e8e9c", "#6e9fff"
OPEN = ("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#3CC8B4", "#E8A87C", "#96D98D", "#FFA6B0",
        "#CA95E5", "#7EB6D9", "#D9A441", "#9FD356", "#C792EA")  # fmt: skip


def style_of(panel: Panel, name: str) -> Style | None:
    """The override that Grafana would apply to a field."""
    for style in panel.styles:
        if style.name == name or (style.name.startswith("/") and re.search(style.name.strip("/"), name)):
            return style
    return None


def colour_of(panel: Panel, name: str) -> str:
    style = style_of(panel, name)
    return style.colour if style and style.colour else OPEN[crc32(name.encode()) % len(OPEN)]


def judged(value: float | None, threshold: Threshold | None) -> str:
    """Green, amber or red."""
    if value is None or threshold is None:
        return colours.GREEN
    worse = threshold.worse is Worse.ABOVE

    def beyond(limit: float | None) -> bool:
        return limit is not None and (value >= limit if worse else value < limit)

    return colours.RED if beyond(threshold.act) else colours.AMBER if beyond(threshold.watch) else colours.GREEN
