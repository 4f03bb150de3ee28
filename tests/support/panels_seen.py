"""What a person sees on a panel: its queries on a database, then Grafana's own code.

Frames are made as the backend of Grafana's PostgreSQL datasource makes them;
`tools/panels/judge.js` does the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from flows.runtime.paths import ROOT, WORK
from grafana import uids
from grafana.dashboard import Board
from grafana.macros import Surroundings, expand
from grafana.panels import Panel
from grafana.queries import Column, Format, Sql
from grafana.to_grafana import queries_of
from tools.pictures.data import choose

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
    boards: Sequence[Board], db: psycopg.Connection[Any], around: Surroundings
) -> dict[str, Seen]:
    """Look at all SQL panels of some boards, by title; skips where `make tools` was not run."""
    node = shutil.which("node")
    if node is None or not MODULES.exists():
        pytest.skip("needs Grafana's own code: install Node.js 20 with npm and run `make tools`")
    asked = []
    for board in boards:
        file = uids.PROVISIONING / "dashboards" / f"{board.uid}.json"
        by_title = {raw["title"]: raw for raw in json.loads(file.read_text())["panels"]}
        chosen = choose(db, board, around, {})
        for panel in board.panels:
            queries = [q for q in queries_of(panel) if isinstance(q, Sql)]
            if panel.sql:
                frames = [_frame(query, _rows(db, query, chosen)) for query in queries]
                asked.append((panel, by_title[panel.title], frames))
    ran = subprocess.run(
        [node, str(JUDGE)],
        input=json.dumps([{"panel": raw, "frames": frames} for _, raw, frames in asked]),
        env={**os.environ, "NODE_PATH": str(MODULES), "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {
        panel.title: Seen(panel, raw, shown, frames)
        for (panel, raw, frames), shown in zip(asked, json.loads(ran.stdout), strict=True)
    }


def _rows(db: psycopg.Connection[Any], query: Sql, around: Surroundings) -> list[tuple[Any, ...]]:
    return db.execute(expand(query.text, around).encode()).fetchall()


def _frame(query: Sql, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    names, kinds = list(query.columns), list(query.columns.values())
    if query.format is Format.SERIES and kinds[1:] == [Column.TEXT, Column.NUMBER]:
        return {"refId": query.ref, "fields": _wide(names, rows)}
    types = {Column.TIME: "time", Column.TEXT: "string", Column.NUMBER: "number"}
    return {
        "refId": query.ref,
        "fields": [
            {"name": name, "type": types[kind], "values": [_plain(row[i]) for row in rows]}
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ],
    }


def _wide(names: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    # a field per text, which is its name where the column is called metric, else a label
    times = sorted({row[0] for row in rows})
    points = {(row[1], row[0]): _plain(row[2]) for row in rows}
    fields: list[dict[str, Any]] = [
        {"name": names[0], "type": "time", "values": [_plain(t) for t in times]}
    ]
    for text in dict.fromkeys(row[1] for row in rows):
        named: dict[str, Any] = (
            {"name": text}
            if names[1] == "metric"
            else {"name": names[2], "labels": {names[1]: text}}
        )
        values = [points.get((text, time)) for time in times]
        fields.append({**named, "type": "number", "values": values})
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return float(value) if isinstance(value, Decimal) else value
