"""Does the pipeline run, keep up, and keep its promise? Prometheus can watch it alone too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flows.registry import NAMES
from grafana import uids
from grafana.alerts.rule import (
    MINUTE,
    Group,
    NoData,
    OnError,
    PanelReference,
    Rule,
    Severity,
    Team,
)
from grafana.boards.pipeline import DISK_USED, UNREAD_OF_LOG
from grafana.queries import Prom, series
from grafana.silence import newest_event
from grafana.thresholds import (
    BURN_DAY,
    BURN_FAST,
    BURN_SLOW,
    BURN_STEADY,
    DISK_SHARE,
    FLOW_UP,
    FRESHNESS_SECONDS,
    LAG_SECONDS,
    LATENCY_OBJECTIVE,
    LEAST_MISSED_EVENTS,
    LEAST_RECORDS,
    RETRIES,
    ROLLUP_AGE_SECONDS,
    STUCK_FLOWS,
    UNREAD_PARTITIONS,
    UNREAD_SHARE,
    Threshold,
)

TARGETS = ("kafka", "database")
ERRORS = "shopstream:latency_slo_errors:ratio_rate"
EVENTS = 'shopstream_event_latency_seconds_count{flow="metrics"}'
LATENCY = PanelReference(uids.PIPELINE, "Latency percentiles")


def _each(label: str, values: tuple[str, ...], expr: str) -> Prom:
    # 0 for each value that the expression has no series for
    zeros = " or ".join(
        f'label_replace(vector(0), "{label}", "{value}", "", "")' for value in values
    )
    return Prom(f"({expr}) or {zeros}", instant=True)


@dataclass(frozen=True)
class Burn:
    """The latency objective's error budget is spent too fast, over a long span and a short one."""

    speed: str
    long: str
    short: str
    hold: timedelta
    threshold: Threshold
    severity: Severity
    spends: str


def _burn(burn: Burn) -> Rule:
    # the short span ends the alert soon after events are fast again, and has to have enough of them
    budget, limit = f"{round(1 - LATENCY_OBJECTIVE, 6):g}", f"{burn.threshold.act:g}"
    return Rule(
        f"latency-burn-{burn.speed}",
        f"Latency objective: {burn.speed} burn",
        Prom(
            f"max({ERRORS}{burn.long} / {budget}"
            f" and on () ({ERRORS}{burn.short} / {budget} > {limit})"
            f" and on () (sum(increase({EVENTS}[{burn.short}])) >= {LEAST_RECORDS}))"
            " or vector(0)",
            instant=True,
        ),
        burn.threshold,
        LATENCY,
        burn.severity,
        "Slow events spend the latency budget {number} times too fast",
        f"{LATENCY_OBJECTIVE:.0%} of events are to be on the dashboard within 0.25 s. Over"
        f" {burn.long}, and still over {burn.short}, slow ones are more than {limit} times what"
        f" that allows: {burn.spends}.",
        burn.hold,
    )


FRESHNESS = Rule(
    "freshness",
    "Numbers are stale",
    series(
        f"""WITH {newest_event("$__timeTo()::timestamptz")}
SELECT $__timeTo()::timestamptz AS "time",
  CASE WHEN due THEN extract(epoch FROM age)::double precision ELSE 0 END AS value
FROM newest, expected ORDER BY 1""",
        "value",
    ),
    FRESHNESS_SECONDS,
    PanelReference(uids.LIVE, "Newest event"),
    Severity.CRITICAL,
    "The newest counted event is {duration} old",
    "Age of the newest event in the tables that people look at, while accepted events wait or"
    f" {LEAST_MISSED_EVENTS} should have come since, by this hour of last week. Either nobody"
    " sends, or something between Kafka and the database stands still. A quiet shop is no alert.",
    2 * MINUTE,
    NoData.ALERTING,
    OnError.ERROR,
    Prom(
        'min(shopstream_watermark_delay_seconds{flow="metrics"})'
        " and on () (sum(shopstream_lag_records) > 0) or vector(0)",
        instant=True,
    ),
)

FLOW_DOWN = Rule(
    "flow-down",
    "Flow down",
    _each("flow", NAMES, 'min by (flow) (up{job="shopstream"})'),
    FLOW_UP,
    PanelReference(uids.PIPELINE, "Flows up"),
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
    _each(
        "flow",
        NAMES,
        "max by (flow) (shopstream_lag_seconds and deriv(shopstream_lag_seconds[10m]) > 0)",
    ),
    LAG_SECONDS,
    PanelReference(uids.PIPELINE, "Lag in seconds"),
    Severity.WARNING,
    "{label.flow} is {duration} behind and falls further",
    "Age of the oldest unread record of a flow, in its worst partition of those where that age has"
    " grown over ten minutes. A flow that is behind but catches up does not fire.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

NEAR_LOSS = Rule(
    "near-loss",
    "Records are about to be lost",
    _each("flow", NAMES, UNREAD_OF_LOG),
    UNREAD_SHARE,
    PanelReference(uids.PIPELINE, "Unread share of the log"),
    Severity.CRITICAL,
    "{label.flow} has not read {percent} of what Kafka still holds",
    "Retention deletes the oldest records of a partition, and most of what is left waits for the"
    " flow: when it reaches the unread ones, they are gone. Quiet while retention has deleted"
    " nothing.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

DISK = Rule(
    "disk-full",
    "A disk is nearly full",
    Prom(f"{DISK_USED} or vector(0)", instant=True),
    DISK_SHARE,
    PanelReference(uids.PIPELINE, "Disk used"),
    Severity.CRITICAL,
    "A disk is {percent} full",
    "The fullest disk that the exporter of disks sees (under compose those of Kafka's and"
    " TimescaleDB's volumes). On a full one both stop. Quiet without an exporter.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

STUCK = Rule(
    "flow-stuck",
    "Flow stuck",
    _each("flow", NAMES, "1 - min by (flow) (shopstream_healthy)"),
    STUCK_FLOWS,
    PanelReference(uids.PIPELINE, "Stuck flows"),
    Severity.CRITICAL,
    "The flow {label.flow} runs and does nothing",
    "A process of the flow answers, and its /healthz says that it has made no progress though"
    " records wait, or that it is not ready yet.",
    5 * MINUTE,
    on_error=OnError.ERROR,
    whole=True,
)

ROLLUP = Rule(
    "rollup-stale",
    "Hours and days are stale",
    series(
        """SELECT $__timeTo()::timestamptz AS "time", coalesce(max(extract(
  epoch FROM $__timeTo()::timestamptz - finished_at)), 0)::double precision AS value
FROM ops.jobs WHERE job = 'rollup' ORDER BY 1""",
        "value",
    ),
    ROLLUP_AGE_SECONDS,
    PanelReference(uids.PIPELINE, "Roll-up age"),
    Severity.WARNING,
    "Hours and days were last brought up to date {duration} ago",
    "Since when the roll-up job last made hours and days equal to their minutes: longer ranges show"
    " less than was counted. Quiet where it never ran.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

UNREAD = Rule(
    "unread-partitions",
    "Partitions that nobody reads",
    _each(
        "flow",
        NAMES,
        "max by (flow) (shopstream_topic_partitions)"
        " - on (flow) count by (flow) (count by (flow, partition) (shopstream_rewind_records))",
    ),
    UNREAD_PARTITIONS,
    PanelReference(uids.PIPELINE, "Unread partitions"),
    Severity.CRITICAL,
    "{number} partitions are read by no process of {label.flow}",
    "Partitions of the flow's topic less those that its processes tell of: of COUNT processes one"
    " does not run, or two have the same ORDINAL. Nobody else can tell of what waits there.",
    5 * MINUTE,
    on_error=OnError.ERROR,
    whole=True,
)

RETRIED = Rule(
    "retries",
    "Database or broker retries",
    _each("target", TARGETS, "sum by (target) (increase(shopstream_retries_total[5m]))"),
    RETRIES,
    PanelReference(uids.PIPELINE, "Retries"),
    Severity.WARNING,
    "{number} calls to the {label.target} had to be repeated in five minutes",
    "Flows wait and try again while the database or Kafka does not answer: nothing is lost, but"
    " nothing moves. They give up after ten minutes, two for Kafka, and are started again.",
    2 * MINUTE,
    on_error=OnError.ERROR,
)

BURNS = (
    Burn(
        "fast",
        "1h",
        "5m",
        2 * MINUTE,
        BURN_FAST,
        Severity.CRITICAL,
        "a month's budget would last two days",
    ),
    Burn(
        "steady",
        "6h",
        "30m",
        15 * MINUTE,
        BURN_STEADY,
        Severity.WARNING,
        "a month's budget would last five days",
    ),
    Burn(
        "day",
        "1d",
        "2h",
        60 * MINUTE,
        BURN_DAY,
        Severity.WARNING,
        "a month's budget would last ten days",
    ),
    Burn(
        "slow",
        "3d",
        "6h",
        180 * MINUTE,
        BURN_SLOW,
        Severity.WARNING,
        "the budget will not last the month",
    ),
)

PIPELINE = Group(
    "pipeline",
    Team.PLATFORM,
    (
        FRESHNESS,
        FLOW_DOWN,
        STUCK,
        LAG,
        NEAR_LOSS,
        UNREAD,
        ROLLUP,
        DISK,
        *map(_burn, BURNS),
        RETRIED,
    ),
)
