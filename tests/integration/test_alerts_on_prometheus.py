"""The alerts that Grafana asks of Prometheus, on a real one: an hour when all is well, one when
nothing is, and one without data."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.registry import NAMES
from grafana.alerts import GROUPS
from grafana.alerts.files import ALERTING
from grafana.queries import Prom
from tests.support.prometheus import load, serving
from tests.support.time_of_day import seeded_end
from tools.alarms.evaluate import (
    EvaluationError,
    Labels,
    Result,
    Series,
    State,
    Watch,
    evaluate,
    seconds,
)

FILES = [yaml.safe_load(path.read_text()) for path in sorted(ALERTING.glob("rules-*.yaml"))]
RULES = {rule["uid"]: rule for file in FILES for group in file["groups"] for rule in group["rules"]}
ASKED = [r.slug for g in GROUPS for r in g.rules if isinstance(r.query, Prom)]
HOUR = timedelta(hours=1)
END = seeded_end()
WELL, ILL, SILENT = END - 14 * HOUR, END - 7 * HOUR, END
# an alert of the slowest burn holds three hours before it fires
LASTING = 5 * HOUR
BURN = "shopstream:latency_slo_errors:ratio_rate"

# each a series: name, labels, where it begins and how it grows a minute, when all is well and when
# nothing is
NUMBERS: list[tuple[str, dict[str, str], tuple[float, float], tuple[float, float]]] = [
    *[
        ("up", {"job": "shopstream", "flow": flow}, (1, 0), (1, 0))
        for flow in NAMES
        if flow != "metrics"
    ],
    ("up", {"job": "shopstream", "flow": "metrics"}, (1, 0), (0, 0)),
    (
        "shopstream_lag_seconds",
        {"flow": "clean", "topic": "raw.web", "partition": "0"},
        (0, 0),
        (100, 10),
    ),
    (
        "shopstream_lag_seconds",
        {"flow": "metrics", "topic": "clean.web", "partition": "0"},
        (400, -1),
        (4_000, -10),
    ),
    (
        "shopstream_lag_records",
        {"flow": "clean", "topic": "raw.web", "partition": "0"},
        (5, 0),
        (900, 0),
    ),
    (
        "shopstream_lag_records",
        {"flow": "metrics", "topic": "clean.web", "partition": "0"},
        (900, 0),
        (900, 0),
    ),
    *[
        (
            f"shopstream_log_{side}_offset",
            {"flow": flow, "topic": topic, "partition": "0"},
            (offset, 0),
            (offset, 0),
        )
        for flow, topic, side, offset in (
            ("clean", "raw.web", "start", 500),
            ("clean", "raw.web", "end", 1_500),
            # nothing was deleted, so nothing is in danger
            ("metrics", "clean.web", "start", 0),
            ("metrics", "clean.web", "end", 1_000),
        )
    ],
    *[
        (f"node_filesystem_{what}_bytes", {"job": "disks", "fstype": fs, "mountpoint": at}, w, i)
        for what, fs, at, w, i in (
            ("size", "ext4", "/disks/kafka", (100, 0), (100, 0)),
            ("avail", "ext4", "/disks/kafka", (30, 0), (5, 0)),
            ("size", "tmpfs", "/tmp", (100, 0), (100, 0)),
            ("avail", "tmpfs", "/tmp", (1, 0), (1, 0)),
        )
    ],
    ("shopstream_healthy", {"flow": "clean"}, (1, 0), (1, 0)),
    ("shopstream_healthy", {"flow": "quality"}, (1, 0), (0, 0)),
    ("shopstream_topic_partitions", {"flow": "quality", "topic": "tallies"}, (1, 0), (2, 0)),
    ("shopstream_rewind_records", {"flow": "quality", "partition": "0"}, (0, 0), (0, 0)),
    ("shopstream_retries_total", {"flow": "metrics", "target": "database"}, (0, 0), (0, 12)),
    ("shopstream_retries_total", {"flow": "clean", "target": "kafka"}, (0, 1), (0, 1)),
    ("shopstream_placed_total", {"flow": "clean", "place": "right"}, (0, 100), (0, 100)),
    ("shopstream_placed_total", {"flow": "clean", "place": "wrong"}, (0, 0), (0, 5)),
    ("shopstream_budget_ratio", {"flow": "clean", "partition": "all"}, (0.1, 0), (0.85, 0)),
    ("shopstream_event_latency_seconds_count", {"flow": "metrics"}, (0, 600), (0, 600)),
    *[
        (f"{BURN}{span}", {"flow": "metrics"}, (0.002, 0), (0.2, 0))
        for span in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    ],
]
FIRING: dict[str, list[dict[str, str]]] = {
    "flow-down": [{"flow": "metrics"}],
    "lag-growing": [{"flow": "clean"}],
    "unread-partitions": [{"flow": "quality"}],
    "retries": [{"target": "database"}],
    "reject-budget": [{}],
    "misplaced-events": [{}],
    "latency-burn-fast": [{}],
    "latency-burn-steady": [{}],
    "latency-burn-day": [{}],
    "latency-burn-slow": [{}],
    "near-loss": [{"flow": "clean"}],
    "flow-stuck": [{"flow": "quality"}],
    "disk-full": [{}],
}


def openmetrics() -> str:
    lines: dict[str, list[str]] = {}
    for name, labels, well, ill in NUMBERS:
        text = ",".join(f'{k}="{v}"' for k, v in labels.items())
        for begin, (first, step) in ((WELL, well), (ILL, ill)):
            for minute in range(LASTING // timedelta(minutes=1) + 1):
                at = int((begin - LASTING + HOUR + timedelta(minutes=minute)).timestamp())
                lines.setdefault(name, []).append(
                    f"{name}{{{text}}} {first + step * minute:g} {at}"
                )
    families = (
        f"# TYPE {name} unknown\n" + "\n".join(samples) + "\n" for name, samples in lines.items()
    )
    return "".join(families) + "# EOF\n"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, model: Mapping[str, Any], start: datetime, end: datetime) -> Series:
        """An instant query, as Grafana asks it; an answer without series is no data."""
        assert (model["instant"], model["range"]) == (True, False)
        query = urllib.parse.urlencode({"query": model["expr"], "time": end.timestamp()})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=20) as answer:
                content = json.load(answer)
        except OSError as error:
            raise EvaluationError(str(error)) from error
        assert content["data"]["resultType"] == "vector"
        return {
            tuple(sorted((k, v) for k, v in series["metric"].items() if k != "__name__")): [
                (end, float(series["value"][1]))
            ]
            for series in content["data"]["result"]
        }


@pytest.fixture(scope="module")
def prometheus(
    prometheus_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    load(prometheus_programs, folder, openmetrics())
    with serving(prometheus_programs, folder) as url:
        yield Prometheus(url)


def watched(prometheus: Prometheus, slug: str, around: datetime) -> dict[Labels, State]:
    """What Grafana shows after a look a minute, for the rule's time and a quarter of an hour."""
    watch = Watch(RULES[f"shopstream-{slug}"])
    states: dict[Labels, State] = {}
    for minute in range(-15 - seconds(watch.rule["for"]) // timedelta(minutes=1), 1):
        now = around + timedelta(minutes=minute)
        states = watch.look(evaluate(watch.rule, now, prometheus.ask), now)
    return states


def firing(states: dict[Labels, State]) -> set[Labels]:
    return {labels for labels, state in states.items() if state is State.ALERTING}


def keys(labels: list[dict[str, str]]) -> set[Labels]:
    return {tuple(sorted(pairs.items())) for pairs in labels}


def test_each_alert_that_asks_prometheus_is_here() -> None:
    assert set(FIRING) == set(ASKED)


@pytest.mark.parametrize("slug", ASKED)
def test_an_alert_is_still_when_all_is_well(slug: str, prometheus: Prometheus) -> None:
    states = watched(prometheus, slug, WELL + HOUR / 2)
    assert states
    assert set(states.values()) == {State.NORMAL}


@pytest.mark.parametrize("slug", ASKED)
def test_an_alert_fires_when_something_is_wrong(slug: str, prometheus: Prometheus) -> None:
    assert firing(watched(prometheus, slug, ILL + HOUR / 2)) == keys(FIRING[slug])


@pytest.mark.parametrize("slug", ASKED)
def test_without_data_only_the_alert_of_the_missing_flows_fires(
    slug: str, prometheus: Prometheus
) -> None:
    states = watched(prometheus, slug, SILENT)
    assert states, "always a row"
    assert firing(states) == (
        keys([{"flow": flow} for flow in NAMES]) if slug == "flow-down" else set()
    )


@pytest.mark.parametrize("slug", ASKED)
def test_a_prometheus_that_is_away_is_what_the_rule_says_it_is(slug: str) -> None:
    rule = RULES[f"shopstream-{slug}"]
    outcomes = evaluate(rule, SILENT, Prometheus("http://127.0.0.1:9").ask)
    assert outcomes == {(): Result(State.ERROR)}
    expected = {"Error": State.ERROR, "KeepLast": State.NORMAL}[rule["execErrState"]]
    assert Watch(rule).look(outcomes, SILENT) == {(): expected}
