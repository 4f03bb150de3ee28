"""Prometheus itself over running flows: the configuration that we ship, every number, every
recording rule."""

from __future__ import annotations

import json
import math
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.runtime.paths import ROOT
from flows.runtime.telemetry.names import FLOWS as NAMED
from flows.runtime.telemetry.names import LATENCY_SLO_SECONDS, METRIC_FAMILIES, Kind
from shopstream.supervise.supervisor import port_of
from tests.support.prometheus import promtool, serving
from tests.support.scraping import Served, served
from tests.support.stack import FLOWS, Stack, wait_until
from tests.support.traffic import mixed

CONFIGURATION = ROOT / "prometheus"
RULES = re.findall(r"record: (\S+)", (CONFIGURATION / "rules" / "recording.yml").read_text())
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def test_the_rules_are_those_that_boards_and_alerts_ask_for() -> None:
    percentiles = [f"shopstream:event_latency_seconds:{p}" for p in ("p50", "p95", "p99")]
    errors = [f"shopstream:latency_slo_errors:ratio_rate{window}" for window in WINDOWS]
    assert [
        "shopstream:records:rate1m",
        "shopstream:refused:ratio_rate5m",
        *percentiles,
        *errors,
    ] == RULES


def test_the_rules_hold_latency_to_the_slo() -> None:
    ends = set(re.findall(r'le="([^"]+)"', (CONFIGURATION / "rules" / "recording.yml").read_text()))
    assert ends == {str(LATENCY_SLO_SECONDS)}


def test_the_targets_in_compose_are_the_ports_of_the_flows() -> None:
    text = (CONFIGURATION / "prometheus.yml").read_text()
    targets = re.findall(r"targets: \[(\w+):(\d+)\]\n\s+labels: \{flow: (\w+)\}", text)
    expected = [
        (flow, str(port.wanted), flow) for n, flow in enumerate(NAMED) if (port := port_of({}, n))
    ]
    assert targets == expected


@pytest.mark.parametrize("file", ["prometheus.yml", "native.yml"])
def test_promtool_takes_the_configuration(prometheus_programs: Path, file: str) -> None:
    text = promtool(prometheus_programs, "check", "config", file, cwd=CONFIGURATION)
    assert f"{len(RULES)} rules found" in text


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values that the query gives now."""
        answer = self.get(f"query?{urllib.parse.urlencode({'query': query})}")
        return [(row["metric"], float(row["value"][1])) for row in answer["result"]]

    @property
    def up(self) -> dict[str, float]:
        return {labels["flow"]: value for labels, value in self.ask('up{job="shopstream"}')}


@contextmanager
def scraping(programs: Path, folder: Path, flows: dict[str, Served]) -> Iterator[Prometheus]:
    """Run Prometheus with native.yml over these flows.

    Only its pace and where it finds the ports are changed.
    """
    targets = [
        {"targets": [f"127.0.0.1:{at.port}"], "labels": {"flow": flow}}
        for flow, at in flows.items()
    ]
    (folder / "targets.json").write_text(json.dumps(targets))
    text = (CONFIGURATION / "native.yml").read_text()
    for shipped, ours in {
        "../.shopstream/targets/*.json": str(folder / "targets.json"),
        "scrape_interval: 5s": "scrape_interval: 1s",
        "evaluation_interval: 10s": "evaluation_interval: 1s",
        "rules/*.yml": str(CONFIGURATION / "rules" / "*.yml"),
        "alerts/*.yml": str(CONFIGURATION / "alerts" / "*.yml"),
    }.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, ours)
    with serving(programs, folder, text) as url:
        yield Prometheus(url)


@contextmanager
def traffic(stack: Stack) -> Iterator[None]:
    """Records, until the block ends."""
    over, trouble = threading.Event(), []

    def produce() -> None:
        try:
            for seed in range(1_000):
                stack.produce(mixed(100, seed))
                if over.wait(0.2):
                    return
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert trouble == []


def series_of(name: str, kind: Kind) -> str:
    return f"{name}_bucket" if kind is Kind.HISTOGRAM else name


@pytest.mark.services
def test_prometheus_has_every_number_and_every_rule_gives_data(
    prometheus_programs: Path, stack: Stack, tmp_path: Path
) -> None:
    flows = {flow: served() for flow in FLOWS}
    for flow, at in flows.items():
        stack.start(flow, **at.settings)
    with scraping(prometheus_programs, tmp_path, flows) as prometheus, traffic(stack):
        wait_until("all to be up", lambda: prometheus.up == dict.fromkeys(FLOWS, 1))
        expected = {(n.name, flow) for n in METRIC_FAMILIES for flow in n.flows}

        def missing() -> set[tuple[str, str]]:
            have = {
                (n.name, labels["flow"])
                for n in METRIC_FAMILIES
                for labels, _ in prometheus.ask(f"count by (flow) ({series_of(n.name, n.kind)})")
            }
            return expected - have

        wait_until("every number", lambda: not missing())
        # the flows' own label stands, and Prometheus has not set the target's in its place
        assert prometheus.ask('count({exported_flow!=""})') == []
        assert {
            labels["flow"] for labels, _ in prometheus.ask("process_resident_memory_bytes")
        } == set(FLOWS)

        def finite(rule: str) -> list[tuple[dict[str, str], float]]:
            return [
                (labels, value) for labels, value in prometheus.ask(rule) if math.isfinite(value)
            ]

        def is_known(rule: str) -> bool:
            flows = ["metrics"] if "slo" in rule else ["clean", "metrics"]
            return set(flows) <= {labels["flow"] for labels, _ in finite(rule)}

        wait_until("every rule", lambda: all(map(is_known, RULES)), 60)

        def rates() -> list[float]:
            wanted = {("clean", "accepted"), ("clean", "rejected"), ("metrics", "accepted")}
            known = {
                (labels["flow"], labels["outcome"]): v
                for labels, v in finite("shopstream:records:rate1m")
            }
            return [known.get(series, 0) for series in wanted]

        wait_until("records by outcome", lambda: min(rates()) > 0, 30)
        for flow in ("clean", "metrics"):
            p50, p95, p99 = (
                finite(f'shopstream:event_latency_seconds:{p}{{flow="{flow}"}}')[0][1]
                for p in ("p50", "p95", "p99")
            )
            assert 0 < p50 <= p95 <= p99
        for window in WINDOWS:
            ((labels, share),) = finite(f"shopstream:latency_slo_errors:ratio_rate{window}")
            assert labels["flow"] == "metrics"
            assert 0 <= share <= 1
        (share,) = (
            v
            for labels, v in finite("shopstream:refused:ratio_rate5m")
            if labels["flow"] == "clean"
        )
        assert 0 < share < 1
        groups = prometheus.get("rules")["groups"]
        health = {
            rule["health"]
            for group in groups
            for rule in group["rules"]
            if rule["type"] == "recording"
        }
        assert health == {"ok"}
        for at in flows.values():
            promtool(prometheus_programs, "check", "metrics", stdin=at.get("/metrics")[1])
    assert "level=error" not in (tmp_path / "prometheus.log").read_text()
    stack.drain()


def test_a_latency_that_is_known_gives_the_share_that_is_too_slow(
    prometheus_programs: Path, tmp_path: Path
) -> None:
    """The rule's arithmetic, with series written by hand: of 100 events a second 90 are in time;
    without traffic nothing."""
    test = {
        "rule_files": [str(CONFIGURATION / "rules" / "recording.yml")],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {
                        "series": (
                            'shopstream_event_latency_seconds_bucket{flow="metrics",le="0.25"}'
                        ),
                        "values": "0+900x60 54000+0x60",
                    },
                    {
                        "series": 'shopstream_event_latency_seconds_count{flow="metrics"}',
                        "values": "0+1000x60 60000+0x60",
                    },
                    {
                        "series": 'shopstream_records_total{flow="clean",outcome="accepted"}',
                        "values": "0+600x120",
                    },
                    {
                        "series": 'shopstream_records_total{flow="clean",outcome="rejected"}',
                        "values": "0+200x120",
                    },
                    {
                        "series": 'shopstream_refused_total{flow="clean",code="INVALID"}',
                        "values": "0+150x120",
                    },
                    {
                        "series": 'shopstream_refused_total{flow="clean",code="EMPTY"}',
                        "values": "0+50x120",
                    },
                ],
                "promql_expr_test": [
                    {
                        "expr": "round(shopstream:latency_slo_errors:ratio_rate5m, 0.001)",
                        "eval_time": "9m",
                        "exp_samples": [{"labels": '{flow="metrics"}', "value": 0.1}],
                    },
                    {
                        "expr": "shopstream:latency_slo_errors:ratio_rate5m",
                        "eval_time": "19m",
                        "exp_samples": [],
                    },
                    {
                        "expr": "round(shopstream:latency_slo_errors:ratio_rate1h, 0.001)",
                        "eval_time": "19m",
                        "exp_samples": [{"labels": '{flow="metrics"}', "value": 0.1}],
                    },
                    {
                        "expr": "shopstream:refused:ratio_rate5m",
                        "eval_time": "9m",
                        "exp_samples": [
                            {
                                "labels": 'shopstream:refused:ratio_rate5m{flow="clean"}',
                                "value": 0.25,
                            }
                        ],
                    },
                    {
                        "expr": 'shopstream:records:rate1m{outcome="rejected"}',
                        "eval_time": "9m",
                        "exp_samples": [
                            {
                                "labels": (
                                    'shopstream:records:rate1m{flow="clean",outcome="rejected"}'
                                ),
                                "value": 20,
                            }
                        ],
                    },
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    assert "SUCCESS" in promtool(prometheus_programs, "test", "rules", str(tmp_path / "test.yml"))
