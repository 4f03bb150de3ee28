"""Does the pipeline run, keep up, and keep its promise? Prometheus knows; it can watch all of these
without Grafana too.
"""

from __future__ import annotations

from flows.registry import NAMES
from grafana import uids
from grafana.alerts.rule import (
    MINUTE,
    Group,
    NoData,
    OnError,
    Place,
    Prom,
    Rule,
    Severity,
    Sql,
    Team,
)
from grafana.thresholds import (
    BURN_FAST,
    BURN_SLOW,
    BURN_STEADY,
    FLOW_UP,
    FRESHNESS_SECONDS,
    LAG_SECONDS,
    LATENCY_OBJECTIVE,
    LEAST_RECORDS,
    RETRIES,
    Threshold,
)

TARGETS = ("kafka", "database")
ERRORS = "shopstream:latency_slo_errors:ratio_rate"
EVENTS = 'shopstream_event_latency_seconds_count{flow="metrics"}'
SLO = Place(uids.PIPELINE, "latency-percentiles")


def each(label: str, values: tuple[str, ...], expr: str) -> Prom:
    """PromQL: the expression, and 0 for each value that it has no series for."""
    zeros = " or ".join(
        f'label_replace(vector(0), "{label}", "{value}", "", "")' for value in values
    )
    return Prom(f"({expr}) or {zeros}")


def burn(
    slug: str, long: str, short: str, threshold: Threshold, severity: Severity, spends: str
) -> Rule:
    """The latency objective's error budget is spent too fast over a long span, and still is over a
    short one.
    """
    budget = round(1 - LATENCY_OBJECTIVE, 6)
    expr = (
        f"max({ERRORS}{long} / {budget:g} and on () ({ERRORS}{short} / {budget:g} >"
        f" {threshold.act:g}) and on () (sum(increase({EVENTS}[{long}])) >= {LEAST_RECORDS})) or"
        " vector(0)"
    )
    return Rule(
        slug,
        f"Latency objective: {slug.removeprefix('latency-burn-')} burn",
        Prom(expr),
        threshold,
        SLO,
        severity,
        "Slow events spend the latency budget {number} times too fast",
        f"{LATENCY_OBJECTIVE:.0%} of events are to be on the dashboard within 0.25 s. Over {long},"
        f" and still over {short}, slow ones are more than {threshold.act:g} times what that"
        f" allows: {spends}.",
        2 * MINUTE,
    )


FRESHNESS = Rule(
    "freshness",
    "Numbers are stale",
    Sql("""SELECT $__timeTo()::timestamptz AS "time",
  extract(epoch FROM $__timeTo()::timestamptz - max(watermark))::double precision AS value
FROM ops.progress WHERE flow = 'metrics' AND partition >= 0
ORDER BY 1"""),
    FRESHNESS_SECONDS,
    Place(uids.LIVE, "freshness"),
    Severity.CRITICAL,
    "The newest counted event is {duration} old (0s: none was ever counted)",
    "Age of the newest event in the tables that people look at. Either nobody sends, or something"
    " between Kafka and the database stands still. Fires too while no event was ever counted.",
    2 * MINUTE,
    NoData.ALERTING,
    OnError.ERROR,
    Prom('min(shopstream_watermark_delay_seconds{flow="metrics"})'),
)

FLOW_DOWN = Rule(
    "flow-down",
    "Flow down",
    each("flow", NAMES, 'min by (flow) (up{job="shopstream"})'),
    FLOW_UP,
    Place(uids.PIPELINE, "flows-up"),
    Severity.CRITICAL,
    "The flow {label.flow} does not run",
    "A process of the flow does not answer Prometheus, or there is none.",
    2 * MINUTE,
    NoData.ALERTING,
    OnError.ERROR,
)

LAG = Rule(
    "lag-growing",
    "Lag growing",
    each(
        "flow",
        NAMES,
        "max by (flow) (shopstream_lag_seconds and deriv(shopstream_lag_seconds[10m]) > 0)",
    ),
    LAG_SECONDS,
    Place(uids.PIPELINE, "lag-in-seconds"),
    Severity.CRITICAL,
    "{label.flow} is {duration} behind and falls further",
    "Age of the oldest unread record of a flow, in its worst partition of those where that age has"
    " grown over ten minutes. A flow that is behind but catches up does not fire.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

RETRIED = Rule(
    "retries",
    "Database or broker retries",
    each("target", TARGETS, "sum by (target) (increase(shopstream_retries_total[5m]))"),
    RETRIES,
    Place(uids.PIPELINE, "retries"),
    Severity.WARNING,
    "{number} calls to the {label.target} had to be repeated in five minutes",
    "Flows wait and try again while the database or Kafka does not answer: nothing is lost, but"
    " nothing moves. They give up after ten minutes, two for Kafka, and are started again.",
    2 * MINUTE,
    on_error=OnError.ERROR,
)

PIPELINE = Group(
    "pipeline",
    Team.PLATFORM,
    (
        FRESHNESS,
        FLOW_DOWN,
        LAG,
        burn(
            "latency-burn-fast",
            "1h",
            "5m",
            BURN_FAST,
            Severity.CRITICAL,
            "a month's budget would last two days",
        ),
        burn(
            "latency-burn-steady",
            "6h",
            "30m",
            BURN_STEADY,
            Severity.CRITICAL,
            "a month's budget would last five days",
        ),
        burn(
            "latency-burn-slow",
            "3d",
            "6h",
            BURN_SLOW,
            Severity.WARNING,
            "the budget will not last the month",
        ),
        RETRIED,
    ),
)
