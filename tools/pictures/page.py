"""A board on one page: its title, its choices, and its panels where Grafana puts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib
import psycopg
from matplotlib.figure import Figure

from grafana.boards import TITLES
from grafana.dashboard import Board
from grafana.macros import Surroundings
from tools.pictures.data import choose, fetch
from tools.pictures.draw import Box, Page, draw
from tools.pictures.theme import FAINT, LINK, PAGE, TEXT

COLUMN, ROW, GAP, HEAD, MARGIN = 64, 38, 8, 76, 12  # pixels, as Grafana on a screen of 1,560 points


@dataclass(frozen=True)
class Places:
    """Where the data is."""

    database: psycopg.Connection[Any]
    prometheus: str | None


def picture(
    board: Board,
    places: Places,
    end: datetime,
    length: timedelta,
    chosen: Mapping[str, str],
    to: Path,
) -> None:
    """Draw a board as someone sees it who opens it."""
    matplotlib.rcParams["font.family"] = ["DejaVu Sans"]
    around = choose(places.database, board, Surroundings(end - length, end), chosen)
    placed = board.placed()
    width = 24 * COLUMN + 2 * MARGIN
    height = HEAD + max(at.y + at.h for _, _, at in placed) * ROW + MARGIN
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE)
    page = Page(figure, width, height)
    head(page, board, around)
    for _, panel, at in placed:
        box = Box(MARGIN + at.x * COLUMN, HEAD + at.y * ROW, at.w * COLUMN - GAP, at.h * ROW - GAP)
        draw(page, box, panel, fetch(places.database, places.prometheus, panel, around), around)
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=100, facecolor=PAGE, metadata={"Software": None})


def head(page: Page, board: Board, around: Surroundings) -> None:
    axes = page.blank(Box(0, 0, page.width, HEAD))
    axes.text(MARGIN + 4, 20, f"shopstream  /  {board.title}", color=TEXT, fontsize=13, va="center")
    span = f"{around.start:%Y-%m-%d %H:%M} to {around.end:%Y-%m-%d %H:%M} UTC"
    axes.text(page.width - MARGIN - 4, 20, span, color=FAINT, fontsize=9, va="center", ha="right")
    x = MARGIN + 4.0
    for variable in (*board.variables, *board.extra):
        value = around.variables[variable.name]
        text = value.text or (
            value.value if isinstance(value.value, str) else " + ".join(value.value)
        )
        axes.text(x, 52, variable.label, color=FAINT, fontsize=9, va="center")
        axes.text(
            x + 10 + 6.6 * len(variable.label),
            52,
            text,
            color=TEXT,
            fontsize=9,
            va="center",
            fontweight="bold",
        )
        x += 44 + 6.6 * len(variable.label) + 7.4 * len(text)
    links = "     ".join(title for uid, title in TITLES.items() if uid != board.uid)
    axes.text(page.width - MARGIN - 4, 52, links, color=LINK, fontsize=9, va="center", ha="right")
