"""Pipeline: does every flow keep up, how long does an event take, how are the processes."""

from __future__ import annotations

from dataclasses import dataclass

from flows.registry import NAMES
from grafana import colours, thresholds, uids
from grafana.dashboard import Board
from grafana.panels import Chart, Grid, Heat, Panel, Stat, Style, Unit, Words, painted_all
from grafana.queries import Column, Prom, numbers, table
from grafana.thresholds import Threshold

JOB = 'job="shopstream"'
NONE = "no telemetry: is Prometheus scraping the flows?"
FLOWS = painted_all(colours.FLOWS)
RATE = "$__rate_interval"
# where retention has begun to delete
UNREAD_OF_LOG = (
    "max by (flow) (shopstream_lag_records"
    " / (shopstream_log_end_offset - shopstream_log_start_offset > 0)"
    " and shopstream_log_start_offset > 0)"
)
REAL = '{job="disks",fstype!~"tmpfs|overlay|squashfs|ramfs"}'
DISK_USED = f"max(1 - node_filesystem_avail_bytes{REAL} / node_filesystem_size_bytes{REAL})"


@dataclass(frozen=True)
class Scale:
    """The unit of a panel, its decimals, and where it turns amber and red."""

    unit: Unit
    decimals: int
    threshold: Threshold | None = None


def _stat(words: Words, expr: str, scale: Scale, colour: str = colours.GREEN) -> Panel:
    styles = () if scale.threshold else (Style("/.*/", colour, neutral=True),)
    return Panel(
        words,
        Stat("lastNotNull"),
        (Prom(expr, "now"),),
        scale.unit,
        scale.decimals,
        scale.threshold,
        styles,
    )


def _chart(
    words: Words,
    queries: tuple[Prom, ...],
    scale: Scale,
    look: Chart | None = None,
    styles: tuple[Style, ...] = FLOWS,
) -> Panel:
    shape = look or Chart(limits=scale.threshold is not None, legend_calcs=("lastNotNull", "max"))
    return Panel(words, shape, queries, scale.unit, scale.decimals, scale.threshold, styles)


def _quantile(q: float, metric: str, by: str) -> str:
    # without events it is no number: the comparison drops that
    return f"histogram_quantile({q:g}, sum by (le, {by}) (rate({metric}_bucket[{RATE}]))) >= 0"


UP = _stat(
    Words(
        "Flows up",
        f"Flows of which a process answers Prometheus, of {', '.join(NAMES[:-1])} and {NAMES[-1]}",
        f"{len(NAMES)}",
        NONE,
    ),
    f"sum(max by (flow) (up{{{JOB}}}))",
    Scale(Unit.WHOLE, 0, thresholds.FLOWS_UP),
)
STUCK = _stat(
    Words(
        "Stuck flows",
        "Flows with a process that reads nothing though records wait, by what its /healthz says",
        "0",
        NONE,
    ),
    "sum(1 - min by (flow) (shopstream_healthy))",
    Scale(Unit.WHOLE, 0, thresholds.STUCK_FLOWS),
)
LEFT = _stat(
    Words(
        "Latency budget left",
        "What the last three days left of the error budget: 1 of 100 events may take longer than"
        " 0.25 s",
        "above 25 %",
        NONE,
    ),
    "1 - max(shopstream:latency_slo_errors:ratio_rate3d)"
    f" / {round(1 - thresholds.LATENCY_OBJECTIVE, 6):g}",
    Scale(Unit.RATIO, 0, thresholds.LATENCY_BUDGET_LEFT),
)
ROLLUP_AGE = Panel(
    Words(
        "Roll-up age",
        "Since when hours and days were last brought up to date with their minutes",
        "below a minute",
        "no roll-up has run yet",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            "SELECT extract(epoch FROM now() - finished_at)::double precision"
            " AS \"age\"\nFROM ops.jobs WHERE job = 'rollup'",
            "age",
        ),
    ),
    Unit.SECONDS,
    0,
    thresholds.ROLLUP_AGE_SECONDS,
)
SEALED = Panel(
    Words(
        "Sealed changes",
        "Changes of minutes that retention had dropped already: they are in no hour and no day",
        "0",
        "no change came too late",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT sum(times) AS "changes" FROM ops.sealed_changes HAVING count(*) > 0', "changes"
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.SEALED_CHANGES,
)
P99 = _stat(
    Words(
        "Latency p99",
        "From Kafka to the committed row, 99 of 100 events are faster",
        "below 0.25 s",
        NONE,
    ),
    'shopstream:event_latency_seconds:p99{flow="metrics"}',
    Scale(Unit.SECONDS, 2, thresholds.LATENCY_SECONDS),
)
LAG = _stat(
    Words(
        "Lag",
        "Age of the oldest record that a flow has not read yet, the worst partition",
        "below 10 s",
        NONE,
    ),
    "max(shopstream_lag_seconds)",
    Scale(Unit.SECONDS, 1, thresholds.LAG_SECONDS),
)
BUDGET = _stat(
    Words(
        "Reject budget",
        "Share of a partition's reject budget that is used; at 100 % clean stops itself",
        "below 50 %",
        NONE,
    ),
    "max(shopstream_budget_ratio)",
    Scale(Unit.RATIO, 0, thresholds.REJECT_BUDGET_RATIO),
)
DISK = _stat(
    Words(
        "Disk used",
        "The fullest disk that Prometheus' exporter of disks sees: those of Kafka and TimescaleDB"
        " under compose, else those of the machine where node_exporter runs",
        "below 80 %",
        "no exporter of disks",
    ),
    DISK_USED,
    Scale(Unit.RATIO, 0, thresholds.DISK_SHARE),
)

RECORDS = _chart(
    Words(
        "Records a second by outcome",
        "What clean made of the records it read",
        "nearly all accepted",
        NONE,
    ),
    (Prom('sum by (outcome) (shopstream:records:rate1m{flow="clean"})', "{{outcome}}"),),
    Scale(Unit.RATE, 0),
    Chart(stacked=True, fill=40, legend_calcs=("mean", "max")),
    styles=painted_all(colours.OUTCOMES),
)
IN_AND_OUT = _chart(
    Words(
        "Records a second by flow",
        "How fast each flow reads its topic; dashed, how fast the topic grows",
        "each line on its dashed one",
        NONE,
    ),
    (
        Prom("sum by (flow) (shopstream:records:rate1m)", "{{flow}}"),
        Prom(
            f"sum by (flow) (rate(shopstream_log_end_offset[{RATE}]))", "{{flow}} comes in", ref="B"
        ),
    ),
    Scale(Unit.RATE, 0),
    Chart(legend_calcs=("mean", "max")),
    styles=(
        *FLOWS,
        *(Style(f"{flow} comes in", tone, line="dashed") for flow, tone in colours.FLOWS.items()),
    ),
)
HEAT = Panel(
    Words(
        "Latency",
        "How many events took how long from Kafka to the committed row",
        "everything below 0.25 s",
        NONE,
    ),
    Heat(),
    (
        Prom(
            "sum by (le)"
            f' (increase(shopstream_event_latency_seconds_bucket{{flow="metrics"}}[{RATE}]))',
            "{{le}}",
            heatmap=True,
        ),
    ),
    Unit.SECONDS,
    2,
)
PERCENTILES = _chart(
    Words(
        "Latency percentiles",
        "From Kafka to the committed row; the dashed lines are the objective of 0.25 s and the"
        " alert",
        "p99 below 0.25 s",
        NONE,
    ),
    tuple(
        Prom(f'shopstream:event_latency_seconds:{p}{{flow="metrics"}}', p, ref=ref)
        for p, ref in (("p50", "A"), ("p95", "B"), ("p99", "C"))
    ),
    Scale(Unit.SECONDS, 2, thresholds.LATENCY_SECONDS),
    styles=painted_all(colours.PERCENTILES),
)
LAG_RECORDS = _chart(
    Words(
        "Lag in records",
        "Records that a flow has not read yet, over all partitions",
        "below 10,000 and falling after a peak",
        NONE,
    ),
    (Prom("sum by (flow) (shopstream_lag_records)", "{{flow}}"),),
    Scale(Unit.WHOLE, 0, thresholds.LAG_RECORDS),
)
LAG_SECONDS = _chart(
    Words(
        "Lag in seconds",
        "Age of the oldest unread record, the worst partition of each flow",
        "below 10 s",
        NONE,
    ),
    (Prom("max by (flow) (shopstream_lag_seconds)", "{{flow}}"),),
    Scale(Unit.SECONDS, 1, thresholds.LAG_SECONDS),
)
UNREAD_SHARE = _chart(
    Words(
        "Unread share of the log",
        "What a flow has not read of the records that Kafka still holds, the worst partition where"
        " retention has begun to delete: at 100 % the next ones are lost",
        "below 50 %",
        "retention has deleted nothing yet",
    ),
    (
        Prom(
            UNREAD_OF_LOG,
            "{{flow}}",
        ),
    ),
    Scale(Unit.RATIO, 0, thresholds.UNREAD_SHARE),
)
STEPS = _chart(
    Words(
        "Steps, flushes and commits",
        "95th percentile of each step over a batch, of writing a batch to a sink, and of committing"
        " offsets",
        "below 0.25 s",
        NONE,
    ),
    (
        Prom(_quantile(0.95, "shopstream_flush_seconds", "flow, sink"), "{{flow}} to {{sink}}"),
        Prom(_quantile(0.95, "shopstream_commit_seconds", "flow"), "{{flow}} commit", ref="B"),
        Prom(
            _quantile(0.95, "shopstream_step_seconds", "flow, step"), "{{flow}} {{step}}", ref="C"
        ),
    ),
    Scale(Unit.SECONDS, 3, thresholds.FLUSH_SECONDS),
    Chart(limits=True),
    styles=(),
)
RETRIES = _chart(
    Words(
        "Retries",
        "Calls to Kafka and to the database that had to be repeated, in five minutes: how both are,"
        " to the flows",
        "0",
        NONE,
    ),
    (Prom("sum by (target) (increase(shopstream_retries_total[5m]))", "{{target}}"),),
    Scale(Unit.WHOLE, 0, thresholds.RETRIES),
    styles=(Style("kafka", colours.ORANGE), Style("database", colours.TEAL)),
)
UNREAD = _chart(
    Words(
        "Unread partitions",
        "Partitions of each flow's topic that none of its processes reads",
        "0",
        NONE,
    ),
    (
        Prom(
            "max by (flow) (shopstream_topic_partitions)"
            " - on (flow) count by (flow) (count by (flow, partition) (shopstream_rewind_records))",
            "{{flow}}",
        ),
    ),
    Scale(Unit.WHOLE, 0, thresholds.UNREAD_PARTITIONS),
)
MEMORY = _chart(
    Words(
        "Memory and state",
        "Resident memory of each flow's processes, the biggest; on the right axis, the entries of"
        " their state",
        "below 350 MiB",
        NONE,
    ),
    (
        Prom(f"max by (flow) (process_resident_memory_bytes{{{JOB}}})", "{{flow}}"),
        Prom("sum by (flow) (shopstream_state_entries)", "{{flow}} entries", ref="B"),
    ),
    Scale(Unit.BYTES, 0, thresholds.MEMORY_BYTES),
    styles=(
        *FLOWS,
        *(
            Style(f"{flow} entries", tone, line="dashed", right_axis=True, unit=Unit.WHOLE)
            for flow, tone in colours.FLOWS.items()
        ),
    ),
)
CPU = _chart(
    Words(
        "Processor",
        "Cores that each flow's processes use, the busiest; a flow works on one",
        "below 0.8",
        NONE,
    ),
    (Prom(f"max by (flow) (rate(process_cpu_seconds_total{{{JOB}}}[{RATE}]))", "{{flow}}"),),
    Scale(Unit.PLAIN, 2, thresholds.CPU_CORES),
)
MISPLACED = _chart(
    Words(
        "Misplaced events",
        "Share of events in another partition than their visitor's: these visitors are counted in"
        " each",
        "0 %",
        NONE,
    ),
    (
        Prom(
            'sum(rate(shopstream_placed_total{place="wrong"}[15m]))'
            " / (sum(rate(shopstream_placed_total[15m])) > 0)",
            "misplaced",
        ),
    ),
    Scale(Unit.RATIO, 1, thresholds.MISPLACED_SHARE),
    styles=(Style("misplaced", colours.ORANGE),),
)
DATABASE = Panel(
    Words(
        "Database",
        "Size, connections and cache of TimescaleDB as Grafana's own role sees them now",
        "connections below 70 % and a cache share above 98 %",
        "the database does not answer",
    ),
    Grid(1),
    (
        table(
            "SELECT pg_database_size(current_database()) AS size,\n"
            "  (SELECT sum(numbackends) FROM pg_stat_database)::double precision"
            " / current_setting('max_connections')::integer AS connections,\n"
            "  blks_hit::double precision / nullif(blks_hit + blks_read, 0) AS cached,"
            " temp_bytes AS spilled,\n"
            "  (SELECT sum(n_dead_tup)::double precision / nullif(sum(n_live_tup + n_dead_tup), 0)"
            " FROM pg_stat_user_tables) AS dead,\n"
            "  (SELECT wal_bytes FROM pg_stat_wal) AS wal,\n"
            "  extract(epoch FROM now() - pg_postmaster_start_time())::double precision AS up\n"
            "FROM pg_stat_database WHERE datname = current_database()",
            {
                "size": Column.NUMBER,
                "connections": Column.NUMBER,
                "cached": Column.NUMBER,
                "spilled": Column.NUMBER,
                "dead": Column.NUMBER,
                "wal": Column.NUMBER,
                "up": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("size", title="Size", unit=Unit.BYTES, decimals=1),
        Style(
            "cached",
            title="Cached",
            unit=Unit.RATIO,
            decimals=1,
            threshold=thresholds.CACHE_HIT_SHARE,
            cell="color-text",
        ),
        Style(
            "connections",
            title="Connections",
            unit=Unit.RATIO,
            decimals=0,
            threshold=thresholds.CONNECTIONS_SHARE,
            cell="color-text",
        ),
        Style("spilled", title="Spilled", unit=Unit.BYTES),
        Style("dead", title="Dead rows", unit=Unit.RATIO, decimals=0),
        Style("wal", title="WAL", unit=Unit.BYTES, decimals=1),
        Style("up", title="Up for", unit=Unit.SECONDS, decimals=1),
    ),
)
PARTITIONS = Panel(
    Words(
        "Partitions",
        "How far the counted numbers reach in each partition of the raw topic",
        "watermarks close together",
        "no partition has been counted yet",
    ),
    Grid(4),
    (
        table(
            "SELECT flow, source_topic AS topic, partition,"
            " source_offset AS reached, watermark,\n"
            "  greatest(extract(epoch FROM now() - watermark), 0)::double precision AS age\n"
            "FROM ops.progress ORDER BY flow, source_topic, partition LIMIT 64",
            {
                "flow": Column.TEXT,
                "topic": Column.TEXT,
                "partition": Column.NUMBER,
                "reached": Column.NUMBER,
                "watermark": Column.TIME,
                "age": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("flow", title="Flow"),
        Style("topic", title="Topic"),
        Style("partition", title="Partition"),
        Style("reached", title="Offset"),
        Style("watermark", title="Watermark", unit=Unit.TIME, width=150),
        Style(
            "age",
            title="Age",
            unit=Unit.SECONDS,
            decimals=0,
            threshold=thresholds.WATERMARK_DELAY_SECONDS,
            cell="color-text",
        ),
    ),
)

PIPELINE = Board(
    uids.PIPELINE,
    "Pipeline",
    "Does every flow keep up, how long does an event take, and what do broker, database and"
    " processes say.",
    (
        (4, ((4, UP), (4, STUCK), (4, LAG), (4, P99), (4, LEFT), (4, BUDGET))),
        (4, ((8, DISK), (8, ROLLUP_AGE), (8, SEALED))),
        (8, ((8, RECORDS), (8, HEAT), (8, PERCENTILES))),
        (8, ((8, IN_AND_OUT), (8, LAG_RECORDS), (8, LAG_SECONDS))),
        (8, ((8, UNREAD_SHARE), (8, STEPS), (8, RETRIES))),
        (8, ((8, UNREAD), (8, MEMORY), (8, CPU))),
        (6, ((10, DATABASE), (9, PARTITIONS), (5, MISPLACED))),
    ),
    since="now-1h",
)
