"""The steps of a bench, in an order in which each has what it needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.check import check_chain, check_counted, counted_events, verify
from bench.drain import DrainResult, drain, drain_unmeasured
from bench.errors import BenchError
from bench.fill import HEALTHY, FillResult, fill
from bench.latency import LatencyResult, measure_latency
from bench.resources import CpuUsage
from bench.sandbox import Sandbox, open_sandbox
from bench.spike import SpikeResult, run_spike
from bench.sweeps import SWEEPS, Extent
from flows.registry import UPSTREAM_FIRST
from shopstream.demo.dev_services import Services

STEPS = ("generator", "clean", "metrics", "chain", "latency")
RATES = (1_000, 16_700, 50_000)
LATENCY_SECONDS = 30.0
# The answer key and the comparison are plain Python, one record at a time, so only a part of the
# backlog is compared: enough records to find a fault.
VERIFIED_EVENTS = 200_000
NOISE = 0.05  # the part of the machine that others took, from which on a figure is marked


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Shape: `form` is that of clean.web; with `batch_too` clean and chain are measured with batches
    too; `extent` is how far the sweeps go.
    """

    events: int
    repeats: int
    steps: tuple[str, ...]
    form: str
    scenario: str
    batch_too: bool
    verified: bool
    extent: Extent


@dataclass
class Measurements:
    """All runs of every step."""

    generator: list[FillResult] = field(default_factory=list)
    spike: list[SpikeResult] = field(default_factory=list)
    clean: list[DrainResult] = field(default_factory=list)
    metrics: list[DrainResult] = field(default_factory=list)
    chain: list[DrainResult] = field(default_factory=list)
    batch_clean: list[DrainResult] = field(default_factory=list)
    batch_chain: list[DrainResult] = field(default_factory=list)
    latency: list[LatencyResult] = field(default_factory=list)
    verified: str | None = None
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)


class Bench:
    """Run a plan. Each step has a sandbox of its own."""

    def __init__(self, services: Services, plan: Plan, log: Callable[[str], None]) -> None:
        self._services, self._plan, self._log = services, plan, log
        self._id = secrets.token_hex(3)
        self.measured = Measurements()

    def run(self) -> Measurements:
        """Run the steps of the plan.

        Errors: BenchError for a step that fails or whose numbers are wrong.
        """
        if set(self._plan.steps) & set(STEPS) - {"latency"}:
            for number in range(self._plan.repeats):
                self._round(f"{self._id}-{number}")
        if "latency" in self._plan.steps:
            for rate in RATES:
                self._latency(rate)
        for name in self._plan.steps:
            if name in SWEEPS:
                sweep, extent = SWEEPS[name], self._plan.extent
                measured = sweep(self._services, f"{self._id}-{name}", extent, self._log)
                self.measured.sweeps[name] = measured
        if self._plan.verified:
            self._verify()
        return self.measured

    def _round(self, name: str) -> None:
        """Fill a topic once and drain it several times: flows alone first, then together."""
        plan, measured = self._plan, self.measured
        with open_sandbox(self._services, name, form=plan.form) as single:
            filled = fill(single, plan.events, plan.scenario)
            measured.generator.append(filled)
            self._log(
                f"generator      {filled.sending_eps:>9,.0f}/s sending, {filled.process_eps:,.0f}/s"
                " whole process"
            )
            counts: set[int] = set()
            if {"clean", "metrics"} & set(plan.steps):
                measured.clean.append(self._drain("clean", single, ("clean",), filled))
            if "metrics" in plan.steps:
                measured.metrics.append(self._drain("metrics", single, ("metrics",), filled))
                counts.add(counted_events(single))
            raw = single.settings.topic("topic_raw_web")
            if "clean" in plan.steps:
                self._spike(f"{name}-spike", raw, filled)
            if "chain" in plan.steps:
                with open_sandbox(self._services, f"{name}-chain", raw, plan.form) as chain:
                    measured.chain.append(self._drain("chain", chain, UPSTREAM_FIRST, filled))
                    counts.add(check_chain(chain, filled.records))
            if len(counts) > 1:
                raise BenchError(f"metrics alone and the chain count differently: {sorted(counts)}")
            if plan.batch_too and not measured.batch_chain:
                self._batch_form(name, raw, filled)

    def _spike(self, name: str, raw: str, filled: FillResult) -> None:
        """Measure the yardstick beside clean."""
        with open_sandbox(self._services, name, raw, self._plan.form) as sandbox:
            result = run_spike(sandbox, filled.records)
        self.measured.spike.append(result)
        self._log(f"yardstick      {result.eps:>9,.0f}/s work")

    def _batch_form(self, name: str, raw: str, filled: FillResult) -> None:
        """Drain the same backlog once more, with batches on clean.web."""
        with open_sandbox(self._services, f"{name}-batch", raw, "batch") as single:
            self.measured.batch_clean.append(
                self._drain("clean, batches", single, ("clean",), filled)
            )
        with open_sandbox(self._services, f"{name}-batch-chain", raw, "batch") as chain:
            self.measured.batch_chain.append(
                self._drain("chain, batches", chain, UPSTREAM_FIRST, filled)
            )
            check_chain(chain, filled.records)

    def _drain(
        self, label: str, sandbox: Sandbox, flows: tuple[str, ...], filled: FillResult
    ) -> DrainResult:
        result = drain(self._services, sandbox, flows, filled.records)
        self._log(
            f"{label:<14} {result.work_eps:>9,.0f}/s work, {result.start_eps:,.0f}/s from the"
            f" start{noise(result.usage)}"
        )
        return result

    def _latency(self, rate: int) -> None:
        name = f"{self._id}-{rate}"
        with open_sandbox(self._services, name, form=self._plan.form) as sandbox:
            scenario = self._plan.scenario
            result = measure_latency(self._services, sandbox, rate, LATENCY_SECONDS, scenario)
            if scenario == HEALTHY:
                check_counted(sandbox, result.report.sent)
        self.measured.latency.append(result)
        self._log(
            f"latency        at {rate:,}/s p50 {result.latency.p50:.0f} ms, p99"
            f" {result.latency.p99:.0f} ms, generator at most {result.report.behind_max_ms:.0f} ms"
            f" behind{noise(result.usage)}"
        )

    def _verify(self) -> None:
        """Drain a smaller backlog with an answer key, and compare every record and cell."""
        events = min(self._plan.events, VERIFIED_EVENTS)
        name = f"{self._id}-verify"
        with open_sandbox(self._services, name, form=self._plan.form) as sandbox:
            ledger = sandbox.logs / "ledger"
            fill(sandbox, events, self._plan.scenario, ("--ledger", str(ledger)))
            drain_unmeasured(sandbox, UPSTREAM_FIRST)
            self.measured.verified = verify(sandbox, ledger)
        self._log(self.measured.verified)


def noise(usage: CpuUsage) -> str:
    """Describe what others took of the machine, where it is enough to change the figures."""
    if usage.others_ratio <= NOISE:
        return ""
    return f" (others took {usage.others_ratio:.0%} of the machine)"
