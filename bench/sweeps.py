"""How figures change with load, keys, batches, refusals and a crash: `--only find-max,restart`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from bench.check import check_chain, check_counted
from bench.drain import drain, run_flows
from bench.fill import HEALTHY, fill
from bench.latency import WarmProbe, target_of, wait_until_reading, wait_until_visible
from bench.resources import BROKER, DATABASE, Meter, usage_between
from bench.sandbox import Sandbox, open_sandbox
from flows.registry import NAMES, UPSTREAM_FIRST
from flows.runtime.settings import environment_name
from generators.config import Report, RunPlan
from shopstream.demo.dev_services import Services
from shopstream.demo.sending import Sending
from shopstream.supervise.supervisor import Supervisor

SLOWEST, FASTEST = 5_000.0, 160_000.0
FLAT_MS = 250.0
RESTART_RATE = 16_700
FRESH_MS = 1_000.0
REFUSED = (HEALTHY, "duplicate_storm", "late_phones", "corrupt", "rules")
BATCH_RECORDS = environment_name("batch_records")
LOOK_SECONDS = 0.05

Log = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """How far the sweeps go.

    Shape: `cardinalities` are visitors and products; the first is what others are compared with.
    Units: `step` is the ratio of two rates that need not be told apart.
    """

    hold_seconds: float
    step: float
    events: int
    cardinalities: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    kill_after_seconds: float
    restart_seconds: float


FULL = Extent(
    hold_seconds=60.0,
    step=1.05,
    events=1_000_000,
    cardinalities=(
        (10, 100),
        (1_000, 100),
        (100_000, 100),
        (1_000_000, 100),
        (10, 10_000),
        (10, 100_000),
    ),
    batches=(1_000, 2_000, 5_000, 10_000, 20_000),
    kill_after_seconds=70.0,  # clean holds the ids of its whole lateness of 60 s
    restart_seconds=120.0,
)
QUICK = Extent(
    hold_seconds=5.0,
    step=1.25,
    events=300_000,
    cardinalities=((10, 100), (1_000_000, 100), (10, 100_000)),
    batches=(1_000, 20_000),
    kill_after_seconds=10.0,
    restart_seconds=30.0,
)


@dataclass(frozen=True)
class Sent:
    """Events of one run, in the order in which they were due.

    Units: Unix ms when each was due, ms until its row was visible.
    """

    report: Report
    due_ms: np.ndarray
    latency_ms: np.ndarray

    @property
    def growth_ms(self) -> float:
        """Give by how much the median latency of the last quarter is above that of the first."""
        quarter = max(1, len(self.latency_ms) // 4)
        return float(np.median(self.latency_ms[-quarter:]) - np.median(self.latency_ms[:quarter]))

    @property
    def flat(self) -> bool:
        """Tell whether the rate was really sent, and latency did not grow."""
        return self.growth_ms <= FLAT_MS and self.report.behind_p99_ms <= FLAT_MS


def send(sandbox: Sandbox, plan: RunPlan, tend: Callable[[], None]) -> Sent:
    """Send to running flows until all rows are visible; `tend` is called while it sends.

    Errors: BenchError when some rows do not become visible.
    """
    settings = sandbox.settings
    probe = WarmProbe(settings.database_url, settings.topic("topic_raw_web"), 0.0)
    with probe, Sending(plan, probe) as sending:
        while not sending.listen():
            tend()
            time.sleep(LOOK_SECONDS)
        assert sending.report is not None
        # above the highest rate most of what was sent may still wait
        wait_until_visible(probe, 30.0 + 4 * plan.duration_seconds)
    due, visible = probe.due(), probe.visible()
    due_ms = np.concatenate([at for _, at in due.values()])
    seen_ms = np.concatenate(
        [visible[p][1][np.searchsorted(visible[p][0], offsets)] for p, (offsets, _) in due.items()]
    )
    order = np.argsort(due_ms, kind="stable")
    return Sent(sending.report, due_ms[order], (seen_ms - due_ms)[order])


def bisect(lowest: float, highest: float, step: float) -> Iterator[tuple[float, list[bool]]]:
    """Give rates to try, each with a list that takes the answer whether it held."""
    while highest / lowest > step:
        answer: list[bool] = []
        rate = sqrt(lowest * highest)
        yield rate, answer
        lowest, highest = (rate, highest) if answer[0] else (lowest, rate)


def find_max(services: Services, name: str, extent: Extent, log: Log) -> dict[str, Any]:
    """Find the highest rate at which latency stays flat, by bisection, in one run of the flows."""
    trials: list[dict[str, Any]] = []
    total = 0
    with (
        open_sandbox(services, name) as sandbox,
        Meter(services, sandbox.name) as meter,
        run_flows(sandbox, NAMES) as processes,
    ):
        wait_until_reading(processes)
        plan = RunPlan(target=target_of(sandbox), scenario=HEALTHY, seed=1)
        warm_up = replace(plan, rate=SLOWEST, duration_seconds=extent.hold_seconds / 2)
        total += send(sandbox, warm_up, lambda: None).report.sent
        for rate, answer in bisect(SLOWEST, FASTEST, extent.step):
            # another seed each time: the ids of the same one would be repeats
            plan = replace(
                plan, rate=rate, duration_seconds=extent.hold_seconds, seed=plan.seed + 1
            )
            first = meter.sample(processes.pids)
            sent = send(sandbox, plan, lambda: None)
            usage = usage_between(first, meter.sample(processes.pids))
            total += sent.report.sent
            answer.append(sent.flat)
            trials.append(
                {
                    "rate": round(rate),
                    "flat": sent.flat,
                    "p50": round(float(np.percentile(sent.latency_ms, 50)), 1),
                    "p99": round(float(np.percentile(sent.latency_ms, 99)), 1),
                    "growth_ms": round(sent.growth_ms, 1),
                    "generator_behind_p99_ms": round(sent.report.behind_p99_ms, 1),
                    "generator_and_others_cpu_ratio": round(usage.others_ratio, 3),
                }
            )
            log(f"find-max       {rate:>9,.0f}/s {'flat' if sent.flat else 'grows'} {trials[-1]}")
        check_counted(sandbox, total)
    best = max((trial["rate"] for trial in trials if trial["flat"]), default=None)
    return {"flat_eps": best, "hold_seconds": extent.hold_seconds, "trials": trials}


def cardinality(services: Services, name: str, extent: Extent, log: Log) -> dict[str, Any]:
    """Drain backlogs of few and many visitors and products, and compare the CPU per event."""
    points: list[dict[str, Any]] = []
    for visitors, products in extent.cardinalities:
        with open_sandbox(services, f"{name}-{visitors}-{products}") as sandbox:
            options = ("--visitors", str(visitors), "--products", str(products))
            records = fill(sandbox, extent.events, HEALTHY, options).records
            result = drain(services, sandbox, UPSTREAM_FIRST, records)
            check_chain(sandbox, records)
        by_process = result.cpu_s_per_million
        cost = sum(by_process.get(n, 0.0) for n in (*UPSTREAM_FIRST, BROKER, DATABASE))
        points.append({"visitors": visitors, "products": products, **result.row()})
        points[-1] |= {
            "cost_s_per_million": round(cost, 2),
            "cost_ratio": round(cost / points[0].get("cost_s_per_million", cost), 2),
        }
        log(
            f"cardinality    {result.work_eps:>9,.0f}/s with {visitors:,} visitors, {products:,}"
            f" products; {cost:.2f} CPU s per million"
        )
    return {"events": extent.events, "points": points}


def batch_size(services: Services, name: str, extent: Extent, log: Log) -> dict[str, Any]:
    """Drain one backlog with batches of several sizes."""
    points: list[dict[str, Any]] = []
    with open_sandbox(services, name) as filled:
        records = fill(filled, extent.events, HEALTHY).records
        raw = filled.settings.topic("topic_raw_web")
        for size in extent.batches:
            with open_sandbox(services, f"{name}-{size}", raw) as sandbox:
                sized = replace(
                    sandbox,
                    environment={**sandbox.environment, BATCH_RECORDS: str(size)},
                )
                result = drain(services, sized, UPSTREAM_FIRST, records)
                check_chain(sandbox, records)
            points.append({"batch_records": size, **result.row()})
            log(f"batch-size     {result.work_eps:>9,.0f}/s with {size:,} records a batch")
    return {"events": extent.events, "points": points}


def rejects(services: Services, name: str, extent: Extent, log: Log) -> dict[str, Any]:
    """Drain backlogs of scenarios in which much is repeated, late, unreadable or broken."""
    points: list[dict[str, Any]] = []
    for scenario in REFUSED:
        with open_sandbox(services, f"{name}-{scenario.replace('_', '-')}") as sandbox:
            records = fill(sandbox, extent.events, scenario).records
            result = drain(services, sandbox, UPSTREAM_FIRST, records)
            accepted = check_chain(sandbox, records)
        points.append(
            {"scenario": scenario, "accepted_ratio": round(accepted / records, 3), **result.row()}
        )
        log(f"rejects        {result.work_eps:>9,.0f}/s of {scenario}")
    return {"events": extent.events, "points": points}


def restart(services: Services, name: str, extent: Extent, log: Log) -> dict[str, Any]:
    """Kill all flows at a steady rate, and measure until events are visible in time again."""
    with open_sandbox(services, name) as sandbox:
        plan = RunPlan(
            target=target_of(sandbox),
            scenario=HEALTHY,
            rate=RESTART_RATE,
            duration_seconds=extent.restart_seconds,
        )
        with supervised(sandbox) as supervisor:
            killer = Killer(supervisor, time.monotonic() + extent.kill_after_seconds)
            sent = send(sandbox, plan, killer.tend)
        check_counted(sandbox, sent.report.sent)
    caught_up = caught_up_seconds(sent, killer.killed_ms)
    log(f"restart        caught up {caught_up:.1f} s after SIGKILL of all flows")
    return {
        "rate": RESTART_RATE,
        "killed_after_seconds": round((killer.killed_ms - float(sent.due_ms[0])) / 1000, 1),
        "caught_up_seconds": round(caught_up, 2),
        "restarts": supervisor.restarts,
        "latency_by_second": latency_by_second(sent, killer.killed_ms),
    }


@contextmanager
def supervised(sandbox: Sandbox) -> Iterator[Supervisor]:
    """Run all flows with a supervisor that starts again what ends."""
    with Supervisor(sandbox.environment, sandbox.logs) as supervisor:
        supervisor.wait_until_reading(30.0)
        yield supervisor


class Killer:
    """Kill all flows once, and let the supervisor start them again.

    Time: `killed_ms` by the wall clock, as what it is compared with.
    """

    def __init__(self, supervisor: Supervisor, at: float) -> None:
        self._supervisor, self._at = supervisor, at
        self.killed_ms = 0.0

    def tend(self) -> None:
        """Kill when the time has come; look after the flows."""
        if not self.killed_ms and time.monotonic() >= self._at:
            self.killed_ms = time.time() * 1000
            for child in self._supervisor.children:
                if child.process is not None:
                    child.process.kill()
        self._supervisor.tend()


def caught_up_seconds(sent: Sent, killed_ms: float) -> float:
    """Give the time from the kill until the last event was seen that took too long."""
    seen_ms = sent.due_ms + sent.latency_ms
    slow = (sent.latency_ms > FRESH_MS) & (seen_ms > killed_ms)
    return float(seen_ms[slow].max(initial=killed_ms) - killed_ms) / 1000


def latency_by_second(sent: Sent, killed_ms: float) -> list[tuple[int, float]]:
    """Give the median latency of the events due in each second, counted from the kill."""
    second = np.floor((sent.due_ms - killed_ms) / 1000).astype(int)
    return [
        (int(s), round(float(np.median(sent.latency_ms[second == s])), 1))
        for s in np.unique(second).tolist()
    ]


SWEEPS: dict[str, Callable[[Services, str, Extent, Log], dict[str, Any]]] = {
    "find-max": find_max,
    "cardinality": cardinality,
    "batch-size": batch_size,
    "rejects": rejects,
    "restart": restart,
}
