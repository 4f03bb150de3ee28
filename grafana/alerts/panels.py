"""Where on the boards an alert belongs: panels are named by the slug of their title, and found in
the rendered boards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grafana.alerts.rule import Place
from grafana.uids import PROVISIONING

DASHBOARDS = PROVISIONING / "dashboards"
Find = Callable[[Place], int | None]


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def panels(board: str) -> dict[str, dict[str, Any]]:
    """Slug -> panel of a board's JSON."""
    return {slug(p["title"]): p for p in json.loads(board)["panels"] if "title" in p}


def among(files: Mapping[Path, str]) -> Find:
    """How to find a panel's id in rendered files. A board that is not among them has none: an alert
    then points nowhere.

    Errors: the function raises LookupError where a board has no such panel.
    """
    boards = {path.stem: panels(text) for path, text in files.items() if path.suffix == ".json"}

    def find(place: Place) -> int | None:
        if place.board not in boards:
            return None
        if place.panel not in boards[place.board]:
            raise LookupError(f"{place.board} has no panel {place.panel}: alerts point to it")
        return int(boards[place.board][place.panel]["id"])

    return find


def checked_in() -> dict[Path, str]:
    """The boards as they lie in the checkout."""
    return {path: path.read_text() for path in sorted(DASHBOARDS.glob("*.json"))}
