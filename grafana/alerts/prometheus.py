"""The rules that Prometheus can watch itself: for those who run it without Grafana, and for
promtool to test.
"""

from __future__ import annotations

from typing import Any

from grafana import uids
from grafana.alerts.rendering import seconds
from grafana.alerts.rule import Group, Prom, Rule
from grafana.alerts.text import for_prometheus
from grafana.thresholds import Worse


def groups(found: tuple[Group, ...]) -> dict[str, Any]:
    watched = [(g, [(r, q) for r in g.rules if (q := r.promql) is not None]) for g in found]
    return {
        "groups": [
            {
                "name": f"shopstream-alerts-{g.name}",
                "interval": seconds(g.interval),
                "rules": [rule(r, q, g) for r, q in rules],
            }
            for g, rules in watched
            if rules
        ]
    }


def alert_name(found: Rule) -> str:
    return "Shopstream" + "".join(word.capitalize() for word in found.slug.split("-"))


def rule(found: Rule, asked: Prom, of: Group) -> dict[str, Any]:
    compare = ">" if found.threshold.worse is Worse.ABOVE else "<"
    return {
        "alert": alert_name(found),
        "expr": f"({asked.expr}) {compare} {found.limit:g}",
        "for": seconds(found.hold),
        "labels": {"severity": str(found.severity), "team": str(of.team), "area": of.name},
        "annotations": {
            "summary": for_prometheus(found.summary),
            "description": found.description,
            "runbook_url": f"{uids.RUNBOOK}#{found.slug}",
        },
    }
