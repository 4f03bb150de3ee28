"""Where on the boards an alert belongs: panels are named by the slug of their title, and found in the rendered boards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafana.alerts.rule import Place
from grafana.names import PROVISIONING

DASHBOARDS = PROVISIONING / "dashboards"
Find = Callable[[Place], int | None]


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def panels(board: Path) -> dict[str, dict[str, Any]]:
    """Slug -> panel of a rendered board."""
    return {slug(p["title"]): p for p in json.loads(board.read_text())["panels"] if "title" in p}


def rendered(place: Place) -> int | None:
    """The panel's id on the board as it was rendered last; None for a board that never was.

    Errors: LookupError where the board has no such panel.
    """
    board = DASHBOARDS / f"{place.board}.json"
    if not board.exists():
        return None
    found = panels(board)
    if place.panel not in found:
        raise LookupError(f"{board.name} has no panel {place.panel}: alerts point to it")
    return int(found[place.panel]["id"])
