"""The runbook as a board: a panel per section of docs/runbook.md, which alerts link to."""

from __future__ import annotations

import re

from flows.runtime.paths import ROOT
from grafana import uids
from grafana.dashboard import Board
from grafana.panels import Panel, Prose, Words

FIRST = "How to use it"
LETTERS_PER_LINE, LINES_PER_UNIT = 160, 1.6  # of a text panel as wide as the board


def sections(text: str) -> dict[str, str]:
    """Split the page at its second headings; what comes before them is the first section."""
    _, *parts = re.split(r"^#{1,2} (.+)\n", text, flags=re.MULTILINE)
    titles = [FIRST, *parts[2::2]]
    return dict(zip(titles, (body.strip() for body in parts[1::2]), strict=True))


def anchor(title: str) -> str:
    """Write a heading as the anchor by which a page links to it."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _linked(body: str) -> str:
    # links between sections lead to their panels, links to other pages are names only
    def link(match: re.Match[str]) -> str:
        words, target = match[1], match[2].removeprefix("runbook.md")
        if target.startswith("#") and target[1:] in PANELS:
            return f"[{words}](/d/{uids.RUNBOOK_BOARD}?viewPanel={PANELS[target[1:]]})"
        return words

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, body)


def _height(body: str) -> int:
    lines = sum(1 + len(line) // LETTERS_PER_LINE for line in body.splitlines())
    return 3 + round(lines / LINES_PER_UNIT)


SECTIONS = sections((ROOT / uids.RUNBOOK).read_text())
PANELS = {anchor(title): number for number, title in enumerate(SECTIONS, 1)}
"""The id of each section's panel, by its anchor."""

RUNBOOK = Board(
    uids.RUNBOOK_BOARD,
    "Runbook",
    "What each alert means, how to look, and what to do.",
    tuple(
        (
            _height(body),
            ((24, Panel(Words(title, f"Section of {uids.RUNBOOK}"), Prose(_linked(body)))),),
        )
        for title, body in SECTIONS.items()
    ),
)
