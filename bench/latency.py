"""From the moment an event was due to be sent until its row can be read, at a steady rate."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.drain import Running, rounded, running
from bench.errors import BenchError
from bench.resources import Meter, Spent, between
from bench.sandbox import Sandbox
from flows.registry import NAMES
from generators.config import Report, RunPlan, Target
from shopstream.demo.dev_services import Services
from shopstream.demo.latency_probe import LatencyProbe, Percentiles
from shopstream.demo.sending import Sending

WARM_UP_SECONDS = 5.0
READY_SECONDS = 30.0
VISIBLE_SECONDS = 30.0


@dataclass(frozen=True)
class LatencyRun:
    """Latency at a rate. Time: by this machine's clock, from due to visible; events of the warm-up
    are not counted.
    """

    rate: int
    latency: Percentiles
    report: Report
    spent: Spent
    rss_mib: dict[str, float]

    def row(self) -> dict[str, Any]:
        return {
            "events": self.latency.count,
            "p50": round(self.latency.p50, 1),
            "p99": round(self.latency.p99, 1),
            "generator_behind_p99_ms": round(self.report.behind_p99_ms, 1),
            "generator_behind_max_ms": round(self.report.behind_max_ms, 1),
            "others_cpu_ratio": round(self.spent.others_ratio, 3),
            "cores_used": rounded(
                {n: s / self.spent.seconds for n, s in self.spent.cpu.items()}, 3
            ),
            "rss_mib": rounded(self.rss_mib, 0),
        }


class WarmProbe(LatencyProbe):
    """A probe that leaves out what was due in the first seconds, when imports and first calls are
    still on the way.
    """

    def __init__(self, database_url: str, topic: str) -> None:
        super().__init__(database_url, topic)
        self._from_us: int | None = None
        self.told = 0

    def sent(self, partition: np.ndarray, offset: np.ndarray, scheduled_us: np.ndarray) -> None:
        if not len(scheduled_us):
            return
        if self._from_us is None:
            self._from_us = int(scheduled_us.min()) + int(WARM_UP_SECONDS * 1_000_000)
        warm = scheduled_us >= self._from_us
        self.told += int(warm.sum())
        super().sent(partition[warm], offset[warm], scheduled_us[warm])


def wait(
    services: Services, sandbox: Sandbox, rate: int, seconds: float, scenario: str
) -> LatencyRun:
    """Send at `rate` to running flows, and watch the rows come. Errors: BenchError when some never
    do.
    """
    settings = sandbox.settings
    target = Target(
        bootstrap=settings.bootstrap,
        topic=settings.topic("topic_raw_web"),
        registry_url=settings.registry,
    )
    plan = RunPlan(target=target, scenario=scenario, rate=rate, duration_seconds=seconds)
    probe = WarmProbe(settings.database_url, settings.topic("topic_raw_web"))
    with Meter(services, sandbox.name) as meter, running(sandbox, NAMES) as processes, probe:
        wait_until_reading(processes)
        with Sending(plan, probe) as sending:
            ours = processes.pids | {"generator": multiprocessing.active_children()[0].pid or 0}
            began = meter.look(ours)
            while not sending.listen():
                assert processes.pids  # none has ended
                last = meter.look(ours)
                time.sleep(0.1)
            assert sending.report is not None
        latency = all_visible(probe)
        return LatencyRun(rate, latency, sending.report, between(began, last), processes.rss_mib())


def wait_until_reading(processes: Running) -> None:
    until = time.monotonic() + READY_SECONDS
    while not processes.reading:
        if time.monotonic() > until or not processes.pids:
            raise BenchError(f"the flows do not read after {READY_SECONDS:.0f} s")
        time.sleep(0.1)


def all_visible(probe: WarmProbe) -> Percentiles:
    """Wait until the rows of everything sent can be read."""
    until = time.monotonic() + VISIBLE_SECONDS
    while (found := probe.whole()) is None or found.count < probe.told:
        if time.monotonic() > until:
            raise BenchError(
                f"of {probe.told} events only {found.count if found else 0} became visible"
            )
        time.sleep(0.1)
    return found
