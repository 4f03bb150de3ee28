"""Boards and alerts follow the registry of flows, and depend on nothing that depends on them."""

from __future__ import annotations

import re

from flows.registry import NAMES
from flows.runtime.paths import ROOT
from grafana import colours, thresholds
from grafana.alerts.pipeline import FLOW_DOWN
from grafana.boards.pipeline import UP
from grafana.queries import Prom


def test_each_flow_has_a_colour_of_its_own() -> None:
    assert tuple(colours.FLOWS) == NAMES
    assert len(set(colours.FLOWS.values())) == len(NAMES)


def test_the_board_wants_every_flow_up_and_names_it() -> None:
    assert thresholds.FLOWS_UP.act == len(NAMES)
    assert all(re.search(rf"\b{name}\b", UP.words.about) for name in NAMES)


def test_an_alert_watches_every_flow() -> None:
    assert isinstance(FLOW_DOWN.query, Prom)
    assert re.findall(r'"flow", "(\w+)"', FLOW_DOWN.query.expr) == list(NAMES)


def test_boards_import_no_tool_that_draws_them() -> None:
    for path in (ROOT / "grafana").rglob("*.py"):
        assert not re.search(r"^\s*(?:from|import) (?:tools|tests|bench)\b", path.read_text(), re.M)
