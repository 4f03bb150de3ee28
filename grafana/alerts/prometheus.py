"""The rules that Prometheus can watch itself.

They are for those who run it without Grafana, and for promtool to test.
"""

from __future__ import annotations

from typing import Any

from grafana import uids
from grafana.alerts.rendering import duration
from grafana.alerts.rule import Group, Rule
from grafana.alerts.text import for_prometheus
from grafana.queries import Prom
from grafana.thresholds import Worse


def rules_file(groups: tuple[Group, ...]) -> dict[str, Any]:
    """Make the content of Prometheus' rule file; a group without such rules is left out."""
    watched = [
        (group, [_rule(rule, query, group) for rule in group.rules if (query := rule.promql)])
        for group in groups
    ]
    return {
        "groups": [
            {
                "name": f"shopstream-alerts-{group.name}",
                "interval": duration(group.interval),
                "rules": rules,
            }
            for group, rules in watched
            if rules
        ]
    }


def alert_name(rule: Rule) -> str:
    """Give the rule's name in Prometheus: `ShopstreamFlowDown` for `flow-down`."""
    return "Shopstream" + "".join(word.capitalize() for word in rule.slug.split("-"))


def _rule(rule: Rule, query: Prom, group: Group) -> dict[str, Any]:
    compare = ">" if rule.threshold.worse is Worse.ABOVE else "<"
    return {
        "alert": alert_name(rule),
        "expr": f"({query.expr}) {compare} {rule.limit:g}",
        "for": duration(rule.hold),
        "labels": {"severity": str(rule.severity), "team": str(group.team), "area": group.name},
        "annotations": {
            "summary": for_prometheus(rule.summary),
            "description": rule.description,
            "runbook_url": f"{uids.RUNBOOK}#{rule.slug}",
        },
    }
