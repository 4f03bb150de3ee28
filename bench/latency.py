"""Latency from the moment an event was due to be sent until its row is visible, at one rate."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.drain import RunningFlows, rounded, run_flows
from bench.errors import BenchError
from bench.legs import Times, legs_of
from bench.resources import CpuUsage, Meter, usage_between
from bench.sandbox import Sandbox
from flows.registry import NAMES
from generators.config import Report, RunPlan, Target
from shopstream.demo.dev_services import Services
from shopstream.demo.latency_probe import LatencyProbe, Percentiles
from shopstream.demo.sending import Sending

WARM_UP_SECONDS = 5.0
READY_SECONDS = 30.0
# two cores with the generator on them may not keep up with the highest rate
VISIBLE_SECONDS = 120.0


@dataclass(frozen=True)
class LatencyResult:
    """Latency at one rate.

    Time: by this machine's clock, from due to visible; events of the warm-up are not counted.
    """

    rate: int
    latency: Percentiles
    report: Report
    usage: CpuUsage
    rss_mib: dict[str, float]
    legs: dict[str, dict[str, float]]

    def row(self) -> dict[str, Any]:
        """Give the figures of this run for the results."""
        return {
            "events": self.latency.count,
            "p50": round(self.latency.p50, 1),
            "p90": round(self.latency.p90, 1),
            "p99": round(self.latency.p99, 1),
            "max": round(self.latency.most, 1),
            "legs": self.legs,
            "generator_behind_p99_ms": round(self.report.behind_p99_ms, 1),
            "generator_behind_max_ms": round(self.report.behind_max_ms, 1),
            **self.usage.shares(),
            "cores_used": rounded(
                {n: s / self.usage.seconds for n, s in self.usage.cpu.items()}, 3
            ),
            "rss_mib": rounded(self.rss_mib, 0),
        }


class WarmProbe(LatencyProbe):
    """A probe that leaves out the first seconds, when imports and first calls still take time."""

    def __init__(
        self, database_url: str, topic: str, warm_up_seconds: float = WARM_UP_SECONDS
    ) -> None:
        super().__init__(database_url, topic)
        self._warm_up_us = int(warm_up_seconds * 1_000_000)
        self._from_us: int | None = None
        self._due: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.expected = 0

    def sent(self, partition: np.ndarray, offset: np.ndarray, scheduled_us: np.ndarray) -> None:
        """Take acknowledged records, and expect those after the warm-up to become visible."""
        if not len(scheduled_us):
            return
        if self._from_us is None:
            self._from_us = int(scheduled_us.min()) + self._warm_up_us
        warm = scheduled_us >= self._from_us
        self.expected += int(warm.sum())
        partition, offset, scheduled_us = partition[warm], offset[warm], scheduled_us[warm]
        for p in np.unique(partition).tolist():
            own = partition == p
            self._due.setdefault(p, []).append((offset[own], scheduled_us[own] / 1000))
        super().sent(partition, offset, scheduled_us)

    def due(self) -> Times:
        """Give when each event was due."""
        return {
            p: (np.concatenate([o for o, _ in parts]), np.concatenate([t for _, t in parts]))
            for p, parts in self._due.items()
        }

    def visible(self) -> Times:
        """Give when each look at the tables found how much of a partition."""
        return {
            p: (np.array(offsets), np.array(times) * 1000)
            for p, (offsets, times) in self._looks.items()
        }


def measure_latency(
    services: Services, sandbox: Sandbox, rate: int, seconds: float, scenario: str
) -> LatencyResult:
    """Send at `rate` to running flows until all rows are visible.

    Errors: BenchError when some do not become visible.
    """
    settings = sandbox.settings
    plan = RunPlan(
        target=target_of(sandbox), scenario=scenario, rate=rate, duration_seconds=seconds
    )
    probe = WarmProbe(settings.database_url, settings.topic("topic_raw_web"))
    with Meter(services, sandbox.name) as meter, run_flows(sandbox, NAMES) as processes, probe:
        wait_until_reading(processes)
        with Sending(plan, probe) as sending:
            pids = processes.pids | {"generator": multiprocessing.active_children()[0].pid or 0}
            first = last = meter.sample(pids)
            while not sending.listen():
                assert processes.pids  # raises for a flow that ended
                last = meter.sample(pids)
                time.sleep(0.1)
            assert sending.report is not None
        latency = wait_until_visible(probe)
        usage = usage_between(first, last)
        rss = processes.rss_mib()
    legs = legs_of(sandbox, probe.due(), probe.visible())
    return LatencyResult(rate, latency, sending.report, usage, rss, legs)


def target_of(sandbox: Sandbox) -> Target:
    """Give the generator the raw topic of a sandbox."""
    settings = sandbox.settings
    return Target(
        bootstrap=settings.bootstrap,
        security=settings.kafka.security,
        topic=settings.topic("topic_raw_web"),
        registry_url=settings.registry,
    )


def wait_until_reading(processes: RunningFlows) -> None:
    """Wait until every flow has its partitions.

    Errors: BenchError after READY_SECONDS.
    """
    until = time.monotonic() + READY_SECONDS
    while not processes.reading:
        if time.monotonic() > until or not processes.pids:
            raise BenchError(f"the flows do not read after {READY_SECONDS:.0f} s")
        time.sleep(0.1)


def wait_until_visible(probe: WarmProbe, patience_seconds: float = VISIBLE_SECONDS) -> Percentiles:
    """Wait until the rows of everything sent can be read.

    Errors: BenchError when it takes longer.
    """
    until = time.monotonic() + patience_seconds
    while (latency := probe.whole()) is None or latency.count < probe.expected:
        if time.monotonic() > until:
            visible = latency.count if latency else 0
            raise BenchError(f"of {probe.expected} events only {visible} became visible")
        time.sleep(0.1)
    return latency
