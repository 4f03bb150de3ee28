"""The rules that Prometheus watches, run by Prometheus' own test tool: what fires each, and what
does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from grafana.alerts import GROUPS
from grafana.alerts.files import PROMETHEUS_RULES
from grafana.alerts.prometheus import alert_name
from tests.support.prometheus import promtool

CASES = Path(__file__).with_name("prometheus_alerts.yml")
RECORDING = PROMETHEUS_RULES.with_name("recording.yml")
WATCHED = [r for g in GROUPS for r in g.rules if r.promql is not None]


def mute(folder: Path) -> Path:
    """The alerts without annotations, which promtool would want to be told in every case."""
    content = yaml.safe_load(PROMETHEUS_RULES.read_text())
    for rule in rules_of(content):
        del rule["annotations"]
    path = folder / "alerts.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def rules_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_prometheus_takes_the_files(prometheus_programs: Path) -> None:
    promtool(prometheus_programs, "check", "rules", str(PROMETHEUS_RULES), str(RECORDING))


def test_each_rule_fires_on_what_it_is_about_and_on_nothing_else(
    prometheus_programs: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(CASES.read_text()) | {
        "rule_files": [str(RECORDING), str(mute(tmp_path))]
    }
    cases = content.pop("tests")
    order = [
        g["name"]
        for path in content["rule_files"]
        for g in yaml.safe_load(Path(path).read_text())["groups"]
    ]
    values = {
        f"VALUE_{r.slug.upper().replace('-', '_')}": f"({r.promql.expr})"
        for r in WATCHED
        if r.promql
    }
    for case in cases:
        for query in case.get("promql_expr_test", ()):
            query["expr"] = re.sub(r"VALUE_\w+", lambda match: values[match[0]], query["expr"])
    for interval in {case["interval"] for case in cases}:
        path = tmp_path / f"{interval}.yml"
        alike = [case for case in cases if case["interval"] == interval]
        path.write_text(
            yaml.safe_dump(
                content
                | {"evaluation_interval": interval, "group_eval_order": order, "tests": alike}
            )
        )
        promtool(prometheus_programs, "test", "rules", str(path))


def test_every_rule_has_a_case_that_fires_it_and_one_that_does_not() -> None:
    checks = [
        t for case in yaml.safe_load(CASES.read_text())["tests"] for t in case["alert_rule_test"]
    ]
    names = {alert_name(r) for r in WATCHED}
    assert {t["alertname"] for t in checks if t.get("exp_alerts")} == names
    assert {t["alertname"] for t in checks if not t.get("exp_alerts")} == names


def test_an_alert_says_what_where_and_what_to_do(prometheus_programs: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(PROMETHEUS_RULES.read_text())
    rule = next(r for r in rules_of(content) if r["alert"] == "ShopstreamRetries")
    annotations = rule["annotations"] | {
        "summary": "20 calls to the database had to be repeated in five minutes"
    }
    case = {
        "interval": "1m",
        "input_series": [
            {
                "series": 'shopstream_retries_total{flow="metrics", target="database"}',
                "values": "0+4x30",
            }
        ],
        "alert_rule_test": [
            {
                "eval_time": "20m",
                "alertname": rule["alert"],
                "exp_alerts": [
                    {
                        "exp_labels": rule["labels"] | {"target": "database"},
                        "exp_annotations": annotations,
                    }
                ],
            }
        ],
    }
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump(
            {"rule_files": [str(PROMETHEUS_RULES)], "evaluation_interval": "1m", "tests": [case]}
        )
    )
    promtool(prometheus_programs, "test", "rules", str(path))
