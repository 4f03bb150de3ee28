"""An hour and a half of telemetry, written by hand: the names that flows export and rules record.

It proves that the pipeline board's PromQL is right and meets those names; that flows export them is
proved where flows run.
"""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Iterator
from datetime import datetime

from flows.registry import NAMES

STEP = 15
SPAN = 5_400
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OUTCOMES = {"accepted": 950.0, "duplicate": 18.0, "late": 3.0, "rejected": 9.0}

Sample = tuple[str, float]
"""Name with labels, and value."""


def wave(t: float, size: float, turn: float = 0.0) -> float:
    return size * (1 + 0.25 * math.sin(t / 600 + turn) + 0.08 * math.sin(t / 37 + 3 * turn))


def histogram(
    name: str, labels: str, total: float, middle: float, bounds: tuple[float, ...]
) -> Iterator[Sample]:
    for le in bounds:
        yield f'{name}_bucket{{{labels},le="{le}"}}', round(total / (1 + (middle / le) ** 3))
    yield f'{name}_bucket{{{labels},le="+Inf"}}', round(total)
    yield f"{name}_count{{{labels}}}", round(total)
    yield f"{name}_sum{{{labels}}}", total * middle


def moment(t: float) -> Iterator[Sample]:
    """Everything that is scraped or recorded at a moment, `t` seconds after the start."""
    for n, flow in enumerate(NAMES):
        label, job = (
            f'flow="{flow}"',
            f'flow="{flow}",job="shopstream",instance="127.0.0.1:910{n + 1}"',
        )
        share = 1.0 if n < 2 else 0.02
        yield f"up{{{job}}}", 1
        yield f"shopstream_healthy{{{job}}}", 1
        for outcome, rate in OUTCOMES.items():
            if flow == "clean" or outcome == "accepted":
                yield (
                    f'shopstream:records:rate1m{{{label},outcome="{outcome}"}}',
                    wave(t, rate * share, n),
                )
        for p, factor in (("p50", 0.03), ("p95", 0.09), ("p99", 0.16)):
            yield f"shopstream:event_latency_seconds:{p}{{{label}}}", wave(t, factor, n)
        yield from histogram(
            "shopstream_event_latency_seconds", job, 980 * share * t, 0.04, BUCKETS
        )
        yield from histogram(
            "shopstream_batch_records", job, 8 * t, 120 * share, (1, 10, 100, 1_000, 10_000)
        )
        yield from histogram(
            "shopstream_flush_seconds", job + ',sink="tables"', 4 * t, 0.02, BUCKETS
        )
        yield from histogram("shopstream_commit_seconds", job, 2 * t, 0.012, BUCKETS)
        for partition in range(2):
            at = f'{job},topic="raw.web",partition="{partition}"'
            yield f"shopstream_lag_records{{{at}}}", max(0, wave(t, 60 * share, n + partition))
            yield f"shopstream_log_start_offset{{{at}}}", 50_000
            yield f"shopstream_log_end_offset{{{at}}}", 250_000 + round(490 * share * t)
            yield f"shopstream_lag_seconds{{{at}}}", max(0, wave(t, 0.12, n + partition))
            yield (
                f'shopstream_watermark_delay_seconds{{{job},partition="{partition}"}}',
                wave(t, 1.4, n + partition),
            )
        yield f'shopstream_topic_partitions{{{job},topic="raw.web"}}', 2
        for partition in range(2):
            yield f'shopstream_rewind_records{{{job},partition="{partition}"}}', 0
        yield (
            f"shopstream_start_time_seconds{{{job}}}",
            1_000 + (60 if flow == "metrics" and t > 4_000 else 0),
        )
        yield f"shopstream_rewind_seconds{{{job}}}", 2.1 if flow == "metrics" and t > 4_000 else 0.8
        yield f'shopstream_state_entries{{{job},state="ids"}}', 40_000 + round(share * t)
        yield from histogram(
            "shopstream_step_seconds", job + ',step="decode"', 8 * t, 0.003, BUCKETS
        )
        yield f"process_resident_memory_bytes{{{job}}}", wave(t, (260 - 40 * n) * 2**20, n)
        yield f"process_cpu_seconds_total{{{job}}}", 0.31 * share * t
        for change, rate in (("inserted", 40), ("updated", 210), ("unchanged", 15)):
            yield (
                f'shopstream_rows_total{{{job},table="gold.orders_1m_by_partition",change="{change}"}}',
                round(rate * share * t),
            )
        for target in ("kafka", "database"):
            yield (
                f'shopstream_retries_total{{{job},target="{target}"}}',
                3 if target == "database" and t > 4_000 else 0,
            )
    disk = 'job="disks",instance="a",device="/dev/vda",fstype="ext4",mountpoint="/disks/kafka"'
    yield f"node_filesystem_size_bytes{{{disk}}}", 1e11
    yield f"node_filesystem_avail_bytes{{{disk}}}", 6e10 - 1e6 * t
    for place, share in (("right", 0.999), ("wrong", 0.001)):
        yield f'shopstream_placed_total{{flow="clean",job="shopstream",place="{place}"}}', share * t
    yield "shopstream:latency_slo_errors:ratio_rate3d", 0.002
    yield 'shopstream_budget_ratio{flow="clean",job="shopstream",partition="0"}', wave(t, 0.012)


def open_metrics(end: datetime) -> str:
    """OpenMetrics wants the samples of a series together, in time."""
    start = end.timestamp() - SPAN
    series: dict[str, list[str]] = {}
    for t in range(0, SPAN + 1, STEP):
        for name, value in moment(float(t)):
            series.setdefault(name, []).append(f"{name} {value} {start + t:.3f}")
    lines = [
        line for name in sorted(series, key=lambda n: n.split("{")[0]) for line in series[name]
    ]
    return "\n".join((*lines, "# EOF", ""))


def names(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/api/v1/label/__name__/values", timeout=10) as answer:
        return set(json.load(answer)["data"])
