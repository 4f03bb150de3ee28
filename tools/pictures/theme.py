"""Grafana's dark look: what panels and letters have for colours, and a colour for each name of an
open set.
"""

from __future__ import annotations

import re
from colorsys import hls_to_rgb
from zlib import crc32

from grafana import colours
from grafana.panels import Panel, Style
from grafana.thresholds import Threshold, Worse

PAGE, PANEL, BORDER, GRID = "#111217", "#181b1f", "#2a2d33", "#2a2d33"
TEXT, FAINT, LINK = "#ccccdc", "#8e8e9c", "#6e9fff"


def own_colour(name: str) -> str:
    """Always the same one for a name, as Grafana's palette by name; bright enough for a dark
    ground.
    """
    drawn = crc32(name.encode())
    red, green, blue = hls_to_rgb(
        drawn % 997 / 997, 0.58 + 0.14 * (drawn >> 12 & 1), 0.45 + 0.3 * (drawn >> 16 & 1)
    )
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def style_of(panel: Panel, name: str) -> Style | None:
    """The override that Grafana would apply to a field."""
    for style in panel.styles:
        if style.name == name or (
            style.name.startswith("/") and re.search(style.name.strip("/"), name)
        ):
            return style
    return None


def colour_of(panel: Panel, name: str) -> str:
    style = style_of(panel, name)
    return style.colour if style and style.colour else own_colour(name)


def judged(value: float | None, threshold: Threshold | None) -> str:
    """Green, amber or red."""
    if value is None or threshold is None:
        return colours.GREEN
    worse = threshold.worse is Worse.ABOVE

    def beyond(limit: float | None) -> bool:
        return limit is not None and (value >= limit if worse else value < limit)

    return (
        colours.RED
        if beyond(threshold.act)
        else colours.AMBER
        if beyond(threshold.watch)
        else colours.GREEN
    )
