"""From our rules to Grafana's provisioning file: query, reduce to the last value, compare.

A limit that can be moved is a second query, reduced the same way.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from database.thresholds import Limit
from grafana import uids
from grafana.alerts.rule import Group, Rule
from grafana.alerts.text import for_grafana
from grafana.boards import BY_UID
from grafana.boards.runbook import PANELS
from grafana.queries import Query, Sql, series
from grafana.thresholds import Worse

EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
RANGE_SECONDS = 900  # Grafana wants a range; the queries bring spans of their own
# Grafana keeps a rule that no file names any more
RETIRED = {"business": ("shopstream-conversion-collapse",)}
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
        "deleteRules": [{"orgId": 1, "uid": uid} for uid in RETIRED.get(group.name, ())],
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
            "runbook_url": f"/d/{uids.RUNBOOK_BOARD}?viewPanel={PANELS[rule.slug]}",
            "runbook_section": rule.slug,
            "__dashboardUid__": board,
            "__panelId__": str(panel_id),
        },
    }


def _data(rule: Rule) -> list[dict[str, Any]]:
    # A queries, B takes the last value of each series, C compares; D and E are the limit. Grafana
    # takes `model` as it stands: macros work in it, variables do not.
    if rule.movable is None:
        compare = "gt" if rule.threshold.worse is Worse.ABOVE else "lt"
        condition = {
            "type": "threshold",
            "expression": "B",
            "conditions": [{"evaluator": {"type": compare, "params": [rule.limit]}}],
        }
        return [_asked("A", rule.query), _last("B", "A"), _expression("C", condition)]
    compare = ">" if rule.threshold.worse is Worse.ABOVE else "<"
    condition = {"type": "math", "expression": f"$B {compare} $E"}
    return [
        _asked("A", rule.query),
        _last("B", "A"),
        _asked("D", limit_query(rule.slug, rule.movable)),
        _last("E", "D"),
        _expression("C", condition),
    ]


def limit_query(name: str, limit: Limit) -> Sql:
    """Query the limit of an alert, for each shop where it looks at shops one by one."""
    now = '$__timeTo()::timestamptz AS "time"'
    if not limit.of_shops:
        return series(
            f"SELECT {now}, ops.threshold('{name}', '', {limit.act:g}) AS value ORDER BY 1", "value"
        )
    return series(
        f"""SELECT {now}, shop_id AS shop, ops.threshold('{name}', shop_id, {limit.act:g}) AS value
FROM (
  SELECT shop_id FROM gold.{limit.of_shops}_1d_rows WHERE partition = 0
  UNION SELECT 'none'
) AS shops ORDER BY 1, 2""",
        "value",
        by="shop",
    )


def _asked(ref: str, query: Query) -> dict[str, Any]:
    model = _model(replace(query, ref=ref))
    return {
        "refId": ref,
        "relativeTimeRange": {"from": RANGE_SECONDS, "to": 0},
        "datasourceUid": model["datasource"]["uid"],
        "model": model,
    }


def _last(ref: str, of: str) -> dict[str, Any]:
    return _expression(
        ref,
        {"type": "reduce", "expression": of, "reducer": "last", "settings": {"mode": "dropNN"}},
    )


def _expression(ref: str, what: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": {"refId": ref, "datasource": EXPRESSION, **what},
    }


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
