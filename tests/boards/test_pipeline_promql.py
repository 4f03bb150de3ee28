"""Every PromQL of the boards, as Grafana sends it, on a real Prometheus that holds the names of our
telemetry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.registry import NAMES
from grafana.boards import BOARDS
from grafana.boards.pipeline import PIPELINE
from grafana.macros import Surroundings
from grafana.panels import Chart, Panel, Stat
from grafana.queries import Prom
from tests.support.panels_seen import look
from tests.support.prometheus import load, serving
from tests.support.shop_database import Shop
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
NAME = re.compile(r"\b(?:shopstream[a-z_:0-9]*|process_[a-z_]+|node_[a-z_]+|up)\b(?=[{\[)( ]|$)")


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


@pytest.mark.parametrize("kind", ["plain"])
def test_what_a_person_sees_of_telemetry(url: str, empty: Shop) -> None:
    around = Surroundings(END - timedelta(hours=1), END)
    seen = look((PIPELINE,), empty.reader, around, url)
    asked = {panel.title for panel, _ in CASES if panel in PIPELINE.panels}
    assert asked <= seen.keys()
    for title in asked:
        panel, shown = seen[title].panel, seen[title].shown
        if isinstance(panel.look, Stat):
            (value,) = shown
            assert value["text"] not in (panel.words.nothing, ""), title
            assert "NaN" not in value["text"], title
        elif isinstance(panel.look, Chart):
            assert shown, title
            assert len({line["name"] for line in shown}) == len(shown), title
            assert all("{" not in line["name"] for line in shown), title
            if title != "Retries":
                assert all(line["missing"] < line["points"] for line in shown), title
    assert [value["text"] for value in seen["Flows up"].shown] == [str(len(NAMES))]
    assert {line["name"] for line in seen["Latency percentiles"].shown} == {"p50", "p95", "p99"}


@pytest.mark.parametrize("kind", ["plain"])
def test_without_telemetry_each_panel_says_so(url: str, empty: Shop) -> None:
    long_ago = Surroundings(END - timedelta(days=3), END - timedelta(days=2, hours=23))
    for title, seen in look((PIPELINE,), empty.reader, long_ago, url).items():
        if isinstance(seen.panel.look, Stat):
            assert [v["text"] for v in seen.shown] == [seen.panel.words.nothing], title
        elif isinstance(seen.panel.look, Chart):
            assert seen.shown == [], title
