"""A board on one page: its title, its choices, and its panels where Grafana puts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from grafana.boards import TITLES
from grafana.dashboard import COLUMNS, Board
from grafana.macros import Surroundings, Value
from tools.pictures.canvas import Box, Ink, Page, write
from tools.pictures.data import Datasources, choose, fetch
from tools.pictures.draw import draw
from tools.pictures.theme import FAINT, LINK, PAGE
from tools.pictures.view import View

# pixels, as Grafana has them on a screen of 1,560 points
COLUMN, ROW, GAP, HEAD, MARGIN = 64, 38, 8, 76, 12
DPI = 100


def picture(
    board: Board,
    sources: Datasources,
    around: Surroundings,
    wanted: Mapping[str, str],
    path: Path,
) -> None:
    """Draw a board to a PNG as a person sees it who opens it.

    `wanted` are values of variables; the others are those with which the board opens.
    """
    matplotlib.rcParams["font.family"] = ["DejaVu Sans"]
    around = choose(sources.database, board, around, wanted)
    placed = board.placed()
    width = COLUMNS * COLUMN + 2 * MARGIN
    height = HEAD + max(at.y + at.h for _, _, at in placed) * ROW + MARGIN
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    page = Page(figure, width, height)
    _head(page, board, around)
    for _, panel, at in placed:
        box = Box(MARGIN + at.x * COLUMN, HEAD + at.y * ROW, at.w * COLUMN - GAP, at.h * ROW - GAP)
        draw(View(page, box, panel, fetch(sources, panel, around)), around)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor=PAGE, metadata={"Software": None})


def _head(page: Page, board: Board, around: Surroundings) -> None:
    axes = page.blank(Box(0, 0, page.width, HEAD))
    right = page.width - MARGIN - 4
    write(axes, MARGIN + 4, 20, f"shopstream  /  {board.title}", Ink(size=13))
    span = f"{around.start:%Y-%m-%d %H:%M} to {around.end:%Y-%m-%d %H:%M} UTC"
    write(axes, right, 20, span, Ink(FAINT, 9, "right"))
    x = MARGIN + 4.0
    for variable in board.variables:
        label, text = variable.label, _shown(around.variables[variable.name])
        write(axes, x, 52, label, Ink(FAINT, 9))
        write(axes, x + 10 + 6.6 * len(label), 52, text, Ink(size=9, bold=True))
        x += 44 + 6.6 * len(label) + 7.4 * len(text)
    links = "     ".join(title for uid, title in TITLES.items() if uid != board.uid)
    write(axes, right, 52, links, Ink(LINK, 9, "right"))


def _shown(value: Value) -> str:
    if value.text:
        return value.text
    return value.value if isinstance(value.value, str) else " + ".join(value.value)
