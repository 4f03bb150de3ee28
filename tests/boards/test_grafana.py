"""A real Grafana, where one is: it has what is checked in, and each query of each board is answered
without an error.

GRAFANA_URL names it, with user and password in it or a token in GRAFANA_TOKEN. It reads
grafana/provisioning itself.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flows.runtime.paths import WORK
from grafana import uids
from grafana.alerts import GROUPS
from grafana.boards import BOARDS
from grafana.dashboard import Board
from tests.support.signed_in import signed_in
from tools.pictures.__main__ import BROWSERS, photograph

URL = os.environ.get("GRAFANA_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="needs a Grafana: set GRAFANA_URL")


def login() -> dict[str, str]:
    parts = urlsplit(URL)
    if token := os.environ.get("GRAFANA_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if parts.username:
        pair = f"{parts.username}:{parts.password or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def base() -> str:
    parts = urlsplit(URL)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def call(path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Content-Type": "application/json"} | login()
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(base() + path, data, headers), timeout=30
    ) as answer:
        return json.load(answer)


def test_provisioning_is_read_again_without_a_complaint() -> None:
    for what in ("datasources", "dashboards", "alerting"):
        assert "reloaded" in call(f"/api/admin/provisioning/{what}/reload", {})["message"].lower()


@pytest.mark.parametrize("uid", [uids.TIMESCALE, uids.PROMETHEUS])
def test_a_datasource_answers(uid: str) -> None:
    assert call(f"/api/datasources/uid/{uid}/health")["status"] == "OK"


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.uid)
def test_a_board_is_there_as_checked_in(board: Board) -> None:
    provisioned = call(f"/api/dashboards/uid/{board.uid}")
    assert provisioned["meta"]["provisioned"]
    assert provisioned["meta"]["folderTitle"] == uids.FOLDER
    ours = json.loads((uids.PROVISIONING / "dashboards" / f"{board.uid}.json").read_text())
    assert [(p["id"], p["title"], p["type"]) for p in provisioned["dashboard"]["panels"]] == [
        (p["id"], p["title"], p["type"]) for p in ours["panels"]
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.uid)
def test_every_query_of_a_board_is_answered(board: Board) -> None:
    ours = json.loads((uids.PROVISIONING / "dashboards" / f"{board.uid}.json").read_text())
    choices = {
        v["name"]: v.get("allValue", "GBP") for v in ours.get("templating", {}).get("list", [])
    }
    for panel in ours["panels"]:
        for target in panel.get("targets", []):
            query = dict(target)
            for key in ("rawSql", "expr"):
                if key in query:
                    query[key] = query[key].replace(
                        "$__rate_interval", "1m"
                    )  # Grafana's page does this, not its server
                    for name, value in choices.items():
                        query[key] = query[key].replace(f"${name}", value)
            answer = call(
                "/api/ds/query",
                {
                    "queries": [query | {"intervalMs": 60_000, "maxDataPoints": 500}],
                    "from": "now-6h",
                    "to": "now",
                },
            )
            result = answer["results"][target["refId"]]
            assert not result.get("error"), f"{panel['title']}: {result['error']}"


def test_every_rule_was_evaluated_without_an_error() -> None:
    groups = call("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
    health = {
        rule["name"]: (rule["health"], rule.get("lastError", ""))
        for group in groups
        if group["file"] == uids.ALERT_FOLDER
        for rule in group["rules"]
    }
    assert health.keys() == {rule.title for group in GROUPS for rule in group.rules}
    assert not {name: h for name, h in health.items() if h[0] not in ("ok", "nodata", "unknown")}


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.uid)
def test_a_screenshot_of_a_board_for_people_to_look_at(board: Board, tmp_path: Path) -> None:
    """In .shopstream/screenshots; a browser is all that it needs beside the Grafana."""
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip(f"no browser: install {BROWSERS[0]}")
    folder = WORK / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{board.uid}.png"
    path.unlink(missing_ok=True)
    with signed_in(base(), login()) as address:
        photograph(f"{address}/d/{board.uid}?kiosk", 2_400, tmp_path, path)
    assert path.stat().st_size > 50_000, "an empty page, or a login"
