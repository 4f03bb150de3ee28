"""A panel that is drawn: its data, its place, and how its fields look."""

from __future__ import annotations

from dataclasses import dataclass

from grafana import colours
from grafana.panels import Panel, Style, Unit
from tools.pictures.canvas import Box, Page
from tools.pictures.data import Data, Points
from tools.pictures.formats import formatted
from tools.pictures.theme import colour_of, style_of, threshold_colour


@dataclass(frozen=True)
class View:
    """A panel with its data, and the box in which its look is drawn."""

    page: Page
    box: Box
    panel: Panel
    data: Data

    def style(self, name: str) -> Style | None:
        """Find the override of a field."""
        return style_of(self.panel, name)

    def colour(self, name: str) -> str:
        """Give the colour of a field."""
        return colour_of(self.panel, name)

    def value_colour(self, name: str, value: float | None) -> str:
        """Give the colour of a number: by its threshold, unless its style is neutral."""
        style = self.style(name)
        if style and style.neutral:
            return style.colour or colours.GREY
        own = style.threshold if style else None
        return threshold_colour(value, own or self.panel.threshold)

    def unit(self, name: str) -> tuple[str, int]:
        """Give unit and decimals of a field, as overrides leave them."""
        style, unit, decimals = self.style(name), self.panel.unit, self.panel.decimals
        if style and style.unit:
            unit = style.unit
            if style.decimals is None and unit in (Unit.WHOLE, Unit.BYTES):
                decimals = 0
        if style and style.decimals is not None:
            decimals = style.decimals
        name_of_unit = self.data.unit if unit is Unit.CURRENCY else None
        return name_of_unit or str(unit), decimals

    def formatted(self, name: str, value: object) -> str:
        """Write a value of a field."""
        return formatted(value, *self.unit(name))

    def named_numbers(self) -> list[tuple[str, float]]:
        """Give the text and the number of each row."""
        rows = [list(row.values()) for row in self.data.rows]
        return [(str(name), float(number or 0)) for name, number, *_ in rows]


def reduced(points: Points, calc: str) -> float | None:
    """Reduce a series to a number, as Grafana's calculation of this name does."""
    values = [v for _, v in points if v is not None and v == v]
    if not values:
        return None
    match calc:
        case "sum":
            return float(sum(values))
        case "lastNotNull":
            return float(values[-1])
        case "max":
            return float(max(values))
        case "min":
            return float(min(values))
        case "mean":
            return float(sum(values) / len(values))
    raise ValueError(f"no such calculation: {calc}")
