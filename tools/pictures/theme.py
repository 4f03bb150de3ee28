"""Grafana's dark look: the colours of a page, of fields, and of values beyond a threshold."""

from __future__ import annotations

import re
from colorsys import hls_to_rgb
from zlib import crc32

from grafana import colours
from grafana.panels import Panel, Style
from grafana.thresholds import Threshold, Worse

PAGE, PANEL, BORDER, GRID, TRACK = "#111217", "#181b1f", "#2a2d33", "#2a2d33", "#22252b"
TEXT, FAINT, LINK = "#ccccdc", "#8e8e9c", "#6e9fff"


def style_of(panel: Panel, name: str) -> Style | None:
    """Find the override that Grafana would apply to a field."""
    for style in panel.styles:
        pattern = style.name.strip("/") if style.name.startswith("/") else None
        if style.name == name or (pattern and re.search(pattern, name)):
            return style
    return None


def colour_of(panel: Panel, name: str) -> str:
    """Give the colour of a field: that of its style, or one that follows from its name."""
    style = style_of(panel, name)
    return style.colour if style and style.colour else _colour_by_name(name)


def _colour_by_name(name: str) -> str:
    # the same for the same name, as in Grafana's palette by name; bright enough for a dark ground
    bits = crc32(name.encode())
    red, green, blue = hls_to_rgb(
        bits % 997 / 997, 0.58 + 0.14 * (bits >> 12 & 1), 0.45 + 0.3 * (bits >> 16 & 1)
    )
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def threshold_colour(value: float | None, threshold: Threshold | None) -> str:
    """Give green, amber or red, by how far a value is beyond its threshold."""
    if value is None or threshold is None:
        return colours.GREEN
    worse_above = threshold.worse is Worse.ABOVE

    def beyond(limit: float | None) -> bool:
        return limit is not None and (value >= limit if worse_above else value < limit)

    if beyond(threshold.act):
        return colours.RED
    return colours.AMBER if beyond(threshold.watch) else colours.GREEN
