"""What a panel is, as data: words, queries, and how it looks. `building.py` makes Grafana's JSON of
it, `pictures/` a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from grafana import colours
from grafana.queries import Query, Sql
from grafana.thresholds import Threshold


class Unit(StrEnum):
    """Grafana's units. MONEY is the board's currency: `money.unit_query` names it."""

    COUNT = "short"
    WHOLE = "locale"
    RATIO = "percentunit"
    MONEY = "currency:"
    SECONDS = "s"
    RATE = "cps"
    BYTES = "bytes"
    PLAIN = "none"
    TIME = "dateTimeAsIso"


@dataclass(frozen=True)
class Words:
    """`about` is a sentence or a part of one; `healthy` ends the sentence "Healthy is …"; `nothing`
    stands where no data is.
    """

    title: str
    about: str
    healthy: str
    nothing: str = "no data in this range"

    @property
    def description(self) -> str:
        return f"{self.about.rstrip('.')}. Healthy is {self.healthy.rstrip('.')}."


@dataclass(frozen=True)
class Style:
    """How one field looks that differs from its panel. `name` is a field's name, or a pattern
    between slashes.
    """

    name: str
    colour: str | None = None
    unit: Unit | None = None
    decimals: int | None = None
    threshold: Threshold | None = None
    title: str | None = None
    width: int | None = None
    cell: str | None = None  # a table's: sparkline, gauge, color-text
    line: str | None = None  # a chart's: dashed, bars, lines
    right_axis: bool = False
    link: tuple[str, str] | None = None
    neutral: bool = False  # no thresholds of the panel
    maximum: float | None = None


@dataclass(frozen=True)
class Stat:
    """A number with its line; more numbers from further queries stand below."""

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
    """A horizontal bar for each column of a row, or, with `rows`, for each row (its text names it)."""

    rows: bool = False
    maximum: float | None = None


@dataclass(frozen=True)
class Pie:
    """Shares of a whole, a slice a row."""


@dataclass(frozen=True)
class Grid:
    """A table. `join` names the column by which a sparkline of query B is joined to the rows of
    query A.
    """

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


Look = Stat | Chart | Bars | Pie | Grid | Heat | Prose


@dataclass(frozen=True)
class Panel:
    words: Words
    look: Look
    queries: tuple[Query, ...] = ()
    unit: Unit = Unit.COUNT
    decimals: int = 0
    threshold: Threshold | None = None
    styles: tuple[Style, ...] = ()
    link: tuple[str, str] | None = None
    money: tuple[str, ...] = field(default=())  # names of the fields that are amounts, as patterns

    @property
    def sql(self) -> tuple[Sql, ...]:
        return tuple(q for q in self.queries if isinstance(q, Sql))

    @property
    def title(self) -> str:
        return self.words.title


def painted(*names: str, **more: Any) -> tuple[Style, ...]:
    """Styles that give things their colour."""
    return tuple(Style(name, colours.colour(name), **more) for name in names)


def painted_all(table: dict[str, str]) -> tuple[Style, ...]:
    return tuple(Style(name, colour) for name, colour in table.items())
