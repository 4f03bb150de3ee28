"""What a panel is, as data: words, queries, and how it looks.

`to_grafana.py` makes Grafana's JSON of it, `tools/pictures` a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from grafana import colours
from grafana.queries import Query, Sql
from grafana.thresholds import Threshold


class Unit(StrEnum):
    """Grafana's units. CURRENCY is that of the board: `currency.unit_query` names it."""

    WHOLE = "locale"
    RATIO = "percentunit"
    CURRENCY = "currency:"
    SECONDS = "s"
    RATE = "recps"
    BYTES = "bytes"
    PLAIN = "none"
    TIME = "dateTimeAsIso"


@dataclass(frozen=True)
class Words:
    """What a panel says in words.

    `about` is a sentence or a part of one, `healthy` ends the sentence "Healthy is …" where that
    can be said, and `nothing` is shown instead of data where there are none.
    """

    title: str
    about: str
    healthy: str = ""
    nothing: str = "no data in this range"

    @property
    def description(self) -> str:
        """Join both sentences for the panel's tooltip."""
        about = f"{self.about.rstrip('.')}."
        return f"{about} Healthy is {self.healthy.rstrip('.')}." if self.healthy else about


@dataclass(frozen=True)
class Style:
    """How a field looks that differs from its panel.

    `name` is that of the field, or a regular expression between slashes.
    """

    name: str
    colour: str | None = None
    scheme: str | None = None  # Grafana's name of colours from low to high
    unit: Unit | None = None
    decimals: int | None = None
    threshold: Threshold | None = None
    title: str | None = None
    width: int | None = None
    cell: str | None = None  # a table's: sparkline, gauge, color-text
    line: str | None = None  # a chart's: dashed, bars, lines
    right_axis: bool = False
    link: tuple[str, str] | None = None
    neutral: bool = False  # the panel's thresholds do not colour it
    maximum: float | None = None


@dataclass(frozen=True)
class Stat:
    """A number with its line; one, since Grafana draws two at half the size."""

    calc: str = "lastNotNull"
    sparkline: bool = True


@dataclass(frozen=True)
class Chart:
    """Lines or bars over time."""

    bars: bool = False
    stacked: bool = False
    limits: bool = False  # draw the thresholds
    legend_calcs: tuple[str, ...] = ()
    fill: int = 0
    minimum: float | None = 0
    maximum: float | None = None
    step: bool = False
    legend_right: bool = False


@dataclass(frozen=True)
class Bars:
    """A horizontal bar per column of a row or, with `rows`, per row, which its text names."""

    rows: bool = False
    maximum: float | None = None


@dataclass(frozen=True)
class Pie:
    """Shares of a whole, a slice per row."""


@dataclass(frozen=True)
class Grid:
    """A table; `join` is the column that gives each row its sparkline of the query `trend`.

    `shown` are the rows that a panel's height must have room for without scrolling.
    """

    shown: int
    join: str | None = None
    sort: tuple[str, bool] | None = None  # column, descending
    tall: bool = False


@dataclass(frozen=True)
class Heat:
    """A Prometheus histogram over time."""


@dataclass(frozen=True)
class Prose:
    """Text in Markdown."""

    markdown: str


@dataclass(frozen=True)
class Alarms:
    """What fires or is about to, of all rules."""


Look = Stat | Chart | Bars | Pie | Grid | Heat | Prose | Alarms


@dataclass(frozen=True)
class Panel:
    """A panel of a board.

    `amounts` are patterns of the fields that are in the board's currency.
    """

    words: Words
    look: Look
    queries: tuple[Query, ...] = ()
    unit: Unit = Unit.WHOLE
    decimals: int = 0
    threshold: Threshold | None = None
    styles: tuple[Style, ...] = ()
    link: tuple[str, str] | None = None
    amounts: tuple[str, ...] = ()

    @property
    def sql(self) -> tuple[Sql, ...]:
        """The queries that go to the database."""
        return tuple(q for q in self.queries if isinstance(q, Sql))

    @property
    def title(self) -> str:
        """The title, which is unique on its board."""
        return self.words.title


def painted(*names: str, **more: Any) -> tuple[Style, ...]:
    """Style each of these fields in the colour of what it is named after."""
    return tuple(Style(name, colours.colour(name), **more) for name in names)


def painted_all(tones: Mapping[str, str]) -> tuple[Style, ...]:
    """Style each field of a table of colours."""
    return tuple(Style(name, tone) for name, tone in tones.items())
