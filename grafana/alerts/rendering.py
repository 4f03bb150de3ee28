"""From our rules to Grafana's provisioning file: query, reduce to the last value, compare."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from grafana import uids
from grafana.alerts.rule import Group, Rule
from grafana.alerts.text import for_grafana
from grafana.boards import BY_UID
from grafana.boards.runbook import PANELS
from grafana.queries import Query, Sql
from grafana.thresholds import Worse

EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
RANGE_SECONDS = 900  # Grafana wants a range; the queries bring spans of their own
KEEP_FIRING = "3m"  # from Grafana 12 on; 11.6 passes over it


def duration(span: timedelta) -> str:
    """Write a span as Grafana and Prometheus read it."""
    return f"{int(span.total_seconds())}s"


def group_file(group: Group) -> dict[str, Any]:
    """Make the content of the file with one group.

    Errors: LookupError when an alert refers to a panel that its board does not have.
    """
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group.name,
                "folder": uids.ALERT_FOLDER,
                "interval": duration(group.interval),
                "rules": [_rule(rule, group) for rule in group.rules],
            }
        ],
    }


def _rule(rule: Rule, group: Group) -> dict[str, Any]:
    board = rule.panel.board
    panel_id = BY_UID[board].panel_id(rule.panel.title)
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "data": _data(rule),
        "dashboardUid": board,
        "panelId": panel_id,
        "noDataState": str(rule.no_data),
        "execErrState": str(rule.on_error),
        "for": duration(rule.hold),
        "keepFiringFor": KEEP_FIRING,
        "isPaused": False,
        "labels": {"severity": str(rule.severity), "team": str(group.team), "area": group.name},
        "annotations": {
            "summary": for_grafana(rule.summary),
            "description": rule.description,
            # a path: the message puts the root of the Grafana that sends it before it
            "runbook_url": f"/d/{uids.RUNBOOK_BOARD}?viewPanel={PANELS[rule.slug]}",
            "__dashboardUid__": board,
            "__panelId__": str(panel_id),
        },
    }


def _data(rule: Rule) -> list[dict[str, Any]]:
    # A queries, B takes the last value of each series, C compares. Grafana takes `model` as it
    # stands: macros work in it, variables do not.
    span = {"from": RANGE_SECONDS, "to": 0}
    now = {"from": 0, "to": 0}
    compare = "gt" if rule.threshold.worse is Worse.ABOVE else "lt"
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
        "conditions": [{"evaluator": {"type": compare, "params": [rule.limit]}}],
    }
    model = _model(rule.query)
    source = model["datasource"]["uid"]
    return [
        {"refId": "A", "relativeTimeRange": span, "datasourceUid": source, "model": model},
        {"refId": "B", "relativeTimeRange": now, "datasourceUid": "__expr__", "model": reduce},
        {"refId": "C", "relativeTimeRange": now, "datasourceUid": "__expr__", "model": threshold},
    ]


def _model(query: Query) -> dict[str, Any]:
    common = {"refId": query.ref, "intervalMs": 60_000, "maxDataPoints": 100}
    if isinstance(query, Sql):
        return common | {
            "datasource": {"type": uids.TIMESCALE_TYPE, "uid": uids.TIMESCALE},
            "editorMode": "code",
            "format": str(query.format),
            "rawQuery": True,
            "rawSql": query.text,
        }
    return common | {
        "datasource": {"type": uids.PROMETHEUS_TYPE, "uid": uids.PROMETHEUS},
        "editorMode": "code",
        "expr": query.expr,
        "instant": query.instant,
        "range": not query.instant,
    }
