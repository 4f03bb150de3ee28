"""From our rules to Grafana's provisioning file: query, reduce to the last value, compare."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from grafana import uids
from grafana.alerts.panels import Find
from grafana.alerts.rule import Group, Prom, Rule, Sql
from grafana.alerts.text import for_grafana
from grafana.thresholds import Worse

EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
RANGE_SECONDS = 900  # spans are in the queries; this is only what Grafana wants to have
KEEP_FIRING = "3m"  # from Grafana 12 on; 11.6 passes over it


def seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())}s"


def group(found: Group, panel: Find) -> dict[str, Any]:
    """A file with one group."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": found.name,
                "folder": uids.ALERT_FOLDER,
                "interval": seconds(found.interval),
                "rules": [rule(r, found, panel) for r in found.rules],
            }
        ],
    }


def rule(found: Rule, of: Group, panel: Find) -> dict[str, Any]:
    number = panel(found.place)
    shown = {} if number is None else {"dashboardUid": found.place.board, "panelId": number}
    linked = (
        {}
        if number is None
        else {"__dashboardUid__": found.place.board, "__panelId__": str(number)}
    )
    return {
        "uid": found.uid,
        "title": found.title,
        "condition": "C",
        "data": data(found),
        **shown,
        "noDataState": str(found.no_data),
        "execErrState": str(found.on_error),
        "for": seconds(found.hold),
        "keepFiringFor": KEEP_FIRING,
        "isPaused": False,
        "labels": {"severity": str(found.severity), "team": str(of.team), "area": of.name},
        "annotations": {
            "summary": for_grafana(found.summary),
            "description": found.description,
            "runbook_url": f"{uids.RUNBOOK}#{found.slug}",
            **linked,
        },
    }


def data(found: Rule) -> list[dict[str, Any]]:
    """A asks, B takes the last value of each series, C compares. `model` is taken as it stands:
    macros survive, variables do not.
    """
    asked = {"from": RANGE_SECONDS, "to": 0}
    now = {"from": 0, "to": 0}
    compare = "gt" if found.threshold.worse is Worse.ABOVE else "lt"
    reduce = {
        "refId": "B",
        "type": "reduce",
        "datasource": EXPRESSION,
        "expression": "A",
        "reducer": "last",
        "settings": {"mode": "dropNN"},
    }
    threshold = {
        "refId": "C",
        "type": "threshold",
        "datasource": EXPRESSION,
        "expression": "B",
        "conditions": [{"evaluator": {"type": compare, "params": [found.limit]}}],
    }
    model = query(found.query)
    source = model["datasource"]["uid"]
    return [
        {"refId": "A", "relativeTimeRange": asked, "datasourceUid": source, "model": model},
        {"refId": "B", "relativeTimeRange": now, "datasourceUid": "__expr__", "model": reduce},
        {"refId": "C", "relativeTimeRange": now, "datasourceUid": "__expr__", "model": threshold},
    ]


def query(asked: Sql | Prom) -> dict[str, Any]:
    common = {"refId": "A", "intervalMs": 60_000, "maxDataPoints": 100}
    if isinstance(asked, Sql):
        return common | {
            "datasource": {"type": uids.TIMESCALE_TYPE, "uid": uids.TIMESCALE},
            "editorMode": "code",
            "format": "time_series",
            "rawQuery": True,
            "rawSql": asked.text,
        }
    return common | {
        "datasource": {"type": uids.PROMETHEUS_TYPE, "uid": uids.PROMETHEUS},
        "editorMode": "code",
        "expr": asked.expr,
        "instant": True,
        "range": False,
    }
