"""What a person sees on a panel: its queries' frames, then Grafana's own code on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from flows.runtime.paths import ROOT, WORK
from grafana.dashboard import Board
from grafana.macros import Surroundings
from grafana.panels import Panel
from tools.panels.frames import Datasources, choose, frames, rendered

JUDGE = ROOT / "tools" / "panels" / "judge.js"
MODULES = WORK / "tools" / "panels" / "node_modules"
SECONDS = 60


@dataclass(frozen=True)
class Seen:
    """A panel and what Grafana shows of it.

    Shape: `shown` is a list of values for stats, bars and pies (`name`, `text`, `color`, `line`),
    of series for charts (`name`, `points`, `missing`, `last`, `range`), and columns and rows of
    texts for tables.
    """

    panel: Panel
    raw: dict[str, Any]
    shown: Any
    frames: list[dict[str, Any]]

    @property
    def kind(self) -> str:
        """Grafana's name of the panel's type."""
        return str(self.raw["type"])


def look(
    boards: Sequence[Board],
    db: psycopg.Connection[Any],
    around: Surroundings,
    prometheus: str | None = None,
) -> dict[str, Seen]:
    """Look at the panels of some boards, by title; skips where `make tools` was not run.

    Without a Prometheus, those of telemetry are left out.
    """
    node = shutil.which("node")
    if node is None or not MODULES.exists():
        pytest.skip("needs Grafana's own code: install Node.js 20 with npm and run `make tools`")
    asked = []
    for board in boards:
        by_title, chosen = rendered(board), choose(db, board, around, {})
        for panel in board.panels:
            if panel.sql or (panel.queries and prometheus):
                found = frames(Datasources(db, prometheus), panel, chosen)
                asked.append((panel, by_title[panel.title], found))
    ran = subprocess.run(
        [node, str(JUDGE)],
        input=json.dumps([{"panel": raw, "frames": found} for _, raw, found in asked]),
        env={**os.environ, "NODE_PATH": str(MODULES), "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {
        panel.title: Seen(panel, raw, shown, found)
        for (panel, raw, found), shown in zip(asked, json.loads(ran.stdout), strict=True)
    }
