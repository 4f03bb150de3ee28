"""The one list of telemetry: what is measured, under which name, with which labels.

Telemetry is the health of the pipeline, in Prometheus; a metric is a business number, in the
database (domain/metrics.py). docs/telemetry.md is written from this list, and the tests scrape
every name in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flows import registry

FLOWS = registry.NAMES
CLEAN, METRICS = registry.CLEANING, registry.COUNTING

# The bound on the latency of an event, from its Kafka timestamp until its row can be read.
LATENCY_SLO_SECONDS = 0.25


class Kind(StrEnum):
    """The kind of a family in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, eq=False)
class MetricFamily:
    """One number with all its label values.

    `labels` stand beside `flow`, which every family has; `flows` are those that serve it.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    flows: tuple[str, ...] = FLOWS


# Ends of the buckets: close together around the SLO, since Prometheus interpolates a percentile
# between two of them.
LATENCIES = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    LATENCY_SLO_SECONDS,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    1.5,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0)

RECORDS = MetricFamily(
    "shopstream_records_total",
    Kind.COUNTER,
    "Records by outcome; in the flow metrics, events of clean.web: counted, or repeated and dropped"
    " by the fence. What is read again after a start, to rebuild the state, is not counted again.",
    ("outcome",),
)
REFUSED = MetricFamily(
    "shopstream_refused_total",
    Kind.COUNTER,
    "Records refused, by code (flows/domain/codes.py); LATE is one of them.",
    ("code",),
)
PLACED = MetricFamily(
    "shopstream_placed_total",
    Kind.COUNTER,
    "Events that were looked at (16 of a batch): `wrong` ones are in another partition than Java's"
    " partitioner chooses for their key, so their visitors may be counted twice.",
    ("place",),
    flows=CLEAN,
)
LATENCY = MetricFamily(
    "shopstream_event_latency_seconds",
    Kind.HISTOGRAM,
    "Accepted events: from the Kafka timestamp of the raw record until clean.web has acknowledged"
    " it (clean; seen by the flow's own loop, so up to one poll late) or its rows are committed"
    " (metrics).",
    buckets=LATENCIES,
    flows=CLEAN + METRICS,
)
LAG_RECORDS = MetricFamily(
    "shopstream_lag_records",
    Kind.GAUGE,
    "Records of the topic that have not gone through the flow.",
    ("topic", "partition"),
)
LAG_SECONDS = MetricFamily(
    "shopstream_lag_seconds",
    Kind.GAUGE,
    "Age of the oldest record that has not gone through: 0 without lag, exact for what is being"
    " worked on. Else an upper bound: the age of the last record that was read, or the time since"
    " the topic was last seen read to its end, whichever is less. Missing until one of them is"
    " known.",
    ("topic", "partition"),
)
LOG_START = MetricFamily(
    "shopstream_log_start_offset",
    Kind.GAUGE,
    "The oldest offset that Kafka still holds: above 0, retention has begun to delete.",
    ("topic", "partition"),
)
LOG_END = MetricFamily(
    "shopstream_log_end_offset",
    Kind.GAUGE,
    "The end of the topic's log as the flow knows it; how fast it grows is what comes in.",
    ("topic", "partition"),
)
WATERMARK_DELAY = MetricFamily(
    "shopstream_watermark_delay_seconds",
    Kind.GAUGE,
    "How far the partition's watermark (the highest event time) is behind now. It grows too while"
    " nobody sends.",
    ("partition",),
    flows=CLEAN + METRICS,
)
TOPIC_PARTITIONS = MetricFamily(
    "shopstream_topic_partitions",
    Kind.GAUGE,
    "Partitions of the topic, whichever process reads them.",
    ("topic",),
)
BATCH_RECORDS = MetricFamily(
    "shopstream_batch_records",
    Kind.HISTOGRAM,
    "Records of a batch; polls that found none are left out.",
    buckets=SIZES,
)
STEP_SECONDS = MetricFamily(
    "shopstream_step_seconds", Kind.HISTOGRAM, "One step over one batch.", ("step",), STEPS
)
FLUSH_SECONDS = MetricFamily(
    "shopstream_flush_seconds",
    Kind.HISTOGRAM,
    "Until a sink held everything: a database transaction with its retries, or the acknowledgement"
    " of all that was sent.",
    ("sink",),
    WAITS,
)
COMMIT_SECONDS = MetricFamily(
    "shopstream_commit_seconds",
    Kind.HISTOGRAM,
    "One commit of offsets, until a poll brings Kafka's answer.",
    buckets=WAITS,
)
ROWS = MetricFamily(
    "shopstream_rows_total",
    Kind.COUNTER,
    "Rows sent to a table, by what became of them: inserted, updated, or unchanged because the"
    " stored one counts as much.",
    ("table", "change"),
    flows=tuple(name for name in FLOWS if name not in CLEAN),
)
RETRIES = MetricFamily(
    "shopstream_retries_total",
    Kind.COUNTER,
    "Attempts that had to be repeated, and errors that the Kafka client says it will mend itself.",
    ("target",),
)
STATE_ENTRIES = MetricFamily(
    "shopstream_state_entries",
    Kind.GAUGE,
    "Entries of the state in memory: known ids and open minutes (clean), rows of open windows by"
    " table (metrics).",
    ("state",),
    flows=CLEAN + METRICS,
)
LOST = MetricFamily(
    "shopstream_lost_records_total",
    Kind.COUNTER,
    "Records that were gone before the flow had read them; each loss is a row of ops.losses.",
    ("topic",),
)
REWIND_RECORDS = MetricFamily(
    "shopstream_rewind_records",
    Kind.GAUGE,
    "Offsets that the last start went back to rebuild its state.",
    ("partition",),
)
REWIND_SECONDS = MetricFamily(
    "shopstream_rewind_seconds",
    Kind.GAUGE,
    "How long the last start took to rebuild its state; missing while it does.",
)
START_TIME = MetricFamily(
    "shopstream_start_time_seconds",
    Kind.GAUGE,
    "When the process started, Unix time: a change is a restart.",
)
BUDGET_RATIO = MetricFamily(
    "shopstream_budget_ratio",
    Kind.GAUGE,
    "Share of the reject budget that the current run of records has used; at 1 the flow stops. It"
    " begins anew with each run (SHOPSTREAM_REJECT_BUDGET_RECORDS); partition `all` is all of them"
    " together.",
    ("partition",),
    flows=CLEAN,
)
HEALTHY = MetricFamily("shopstream_healthy", Kind.GAUGE, "1 while /healthz is green, else 0.")
BUILD_INFO = MetricFamily(
    "shopstream_build_info",
    Kind.GAUGE,
    "Always 1; the labels say what runs.",
    ("version", "commit"),
)

METRIC_FAMILIES = (
    RECORDS,
    REFUSED,
    PLACED,
    LATENCY,
    LAG_RECORDS,
    LAG_SECONDS,
    LOG_START,
    LOG_END,
    WATERMARK_DELAY,
    TOPIC_PARTITIONS,
    BATCH_RECORDS,
    STEP_SECONDS,
    FLUSH_SECONDS,
    COMMIT_SECONDS,
    ROWS,
    RETRIES,
    STATE_ENTRIES,
    LOST,
    REWIND_RECORDS,
    REWIND_SECONDS,
    START_TIME,
    BUDGET_RATIO,
    HEALTHY,
    BUILD_INFO,
)
