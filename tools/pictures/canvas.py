"""The paper of a picture, in pixels from the top left, as people read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from tools.pictures.theme import BORDER, FAINT, PANEL, TEXT


@dataclass(frozen=True)
class Box:
    """A part of the page.

    Units: pixels.
    """

    x: float
    y: float
    w: float
    h: float

    def inner(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Give the box within these margins."""
        return Box(self.x + left, self.y + top, self.w - left - right, self.h - top - bottom)


@dataclass(frozen=True)
class Ink:
    """How a text is written; its place is the middle of its height."""

    colour: str = TEXT
    size: float = 8
    align: Literal["left", "center", "right"] = "left"
    bold: bool = False


@dataclass(frozen=True)
class Page:
    """A figure with the place of every box on it."""

    figure: Figure
    width: float
    height: float

    def axes(self, box: Box) -> Axes:
        """Make axes with scales of their own, without lines around them."""
        axes = self.figure.add_axes(
            (
                box.x / self.width,
                1 - (box.y + box.h) / self.height,
                box.w / self.width,
                box.h / self.height,
            )
        )
        axes.set_facecolor("none")
        strip(axes)
        return axes

    def blank(self, box: Box) -> Axes:
        """Make axes whose scales are the pixels of the box."""
        axes = self.axes(box)
        axes.set_axis_off()
        axes.set_xlim(0, box.w)
        axes.set_ylim(box.h, 0)
        return axes

    def frame(self, box: Box, title: str) -> None:
        """Draw the ground of a panel and its title."""
        axes = self.blank(box)
        axes.add_patch(
            FancyBboxPatch(
                (0.5, 0.5),
                box.w - 1,
                box.h - 1,
                boxstyle="round,pad=0,rounding_size=3",
                fc=PANEL,
                ec=BORDER,
                lw=0.8,
            )
        )
        write(axes, 9, 14, shortened(title, box.w - 18, 6.4), Ink(size=8.5))


def strip(axes: Axes) -> None:
    """Leave of the scales their small grey numbers."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=7, length=0)


def write(axes: Axes, x: float, y: float, text: str, ink: Ink) -> None:
    """Write a text as it stands; two dollar signs are no formula."""
    axes.text(
        x,
        y,
        text,
        color=ink.colour,
        fontsize=ink.size,
        ha=ink.align,
        va="center",
        fontweight="bold" if ink.bold else "normal",
        parse_math=False,
    )


def shortened(text: str, width: float, letter: float = 5.4) -> str:
    """Cut a text to what fits, `letter` being the mean width of one in its size."""
    most = max(int(width / letter), 1)
    return text if len(text) <= most else text[: most - 1] + "…"
