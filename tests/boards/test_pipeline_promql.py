"""Every PromQL of the boards, as Grafana sends it, on a real Prometheus that holds the names of our
telemetry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from grafana.boards import BOARDS
from grafana.macros import Surroundings
from grafana.panels import Panel
from grafana.queries import Prom
from tests.support.prometheus import load, serving
from tests.support.telemetry_sample import names, open_metrics
from tests.support.time_of_day import seeded_end
from tools.panels.frames import query_prometheus

END = seeded_end()
CASES = [
    (panel, query)
    for board in BOARDS
    for panel in board.panels
    for query in panel.queries
    if isinstance(query, Prom)
]
NAME = re.compile(r"\b(?:shopstream[a-z_:0-9]*|process_[a-z_]+|up)\b(?=[{\[)( ]|$)")


@pytest.fixture(scope="module")
def url(prometheus_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    load(prometheus_programs, folder, open_metrics(END))
    with serving(prometheus_programs, folder) as address:
        yield address


@pytest.mark.parametrize(
    ("panel", "query"), CASES, ids=lambda c: c.title if isinstance(c, Panel) else c.ref
)
def test_a_query_returns_series_with_names_of_its_own(url: str, panel: Panel, query: Prom) -> None:
    series = query_prometheus(url, query, Surroundings(END - timedelta(hours=1), END))
    assert series, query.expr
    assert all(value == value for points in series.values() for _, value in points[-20:]), (
        "not a number"
    )
    assert not any("{{" in name for name in series), "a label of the legend is missing"
    if "{{" in query.legend:
        assert len(series) > 1


@pytest.mark.parametrize(
    ("panel", "query"), CASES, ids=lambda c: c.title if isinstance(c, Panel) else c.ref
)
def test_a_query_asks_for_telemetry_that_exists(url: str, panel: Panel, query: Prom) -> None:
    wanted = set(NAME.findall(query.expr))
    assert wanted
    assert wanted <= names(url)


def test_before_the_first_scrape_there_is_nothing_and_no_error(url: str) -> None:
    for _, query in CASES:
        assert not query_prometheus(
            url, query, Surroundings(END - timedelta(days=3), END - timedelta(days=2, hours=23))
        )
