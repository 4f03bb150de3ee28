"""The steps of a bench, in an order in which each finds what it needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.check import check_chain, check_counted, counted, verify
from bench.drain import Drained, drain
from bench.errors import BenchError
from bench.fill import Filled, fill
from bench.latency import LatencyRun, wait
from bench.resources import Spent
from bench.sandbox import Sandbox, sandbox
from flows.registry import UPSTREAM_FIRST
from shopstream.demo.dev_services import Services

STEPS = ("generator", "clean", "metrics", "chain", "latency")
HEALTHY = "perf"  # the scenario without faults: all that is sent is accepted
RATES = (1_000, 16_700)
LATENCY_SECONDS = 30.0
# the answer key and the comparison are plain Python, a record at a time: enough of them to find a
# fault
VERIFIED_EVENTS = 200_000
# of the machine, taken by what is not ours: worth a word beside the figure
NOISE = 0.05


@dataclass(frozen=True)
class Plan:
    """What to measure. `form` is that of clean.web; with `batch_too` clean and chain are measured
    with batches too.
    """

    events: int
    repeats: int
    steps: tuple[str, ...]
    form: str
    scenario: str
    batch_too: bool
    verified: bool


@dataclass
class Measured:
    """All runs of every step."""

    generator: list[Filled] = field(default_factory=list)
    clean: list[Drained] = field(default_factory=list)
    metrics: list[Drained] = field(default_factory=list)
    chain: list[Drained] = field(default_factory=list)
    batch_clean: list[Drained] = field(default_factory=list)
    batch_chain: list[Drained] = field(default_factory=list)
    latency: list[LatencyRun] = field(default_factory=list)
    verified: str | None = None


class Bench:
    """Run a plan. Errors: BenchError for a step that fails or whose numbers are wrong."""

    def __init__(self, services: Services, plan: Plan, say: Callable[[str], None]) -> None:
        self._services, self._plan, self._say = services, plan, say
        self._id = secrets.token_hex(3)
        self.measured = Measured()

    def run(self) -> Measured:
        if set(self._plan.steps) - {"latency"}:
            for number in range(self._plan.repeats):
                self._round(f"{self._id}-{number}")
        if "latency" in self._plan.steps:
            for rate in RATES:
                self._latency(rate)
        if self._plan.verified:
            self._verify()
        return self.measured

    def _round(self, name: str) -> None:
        """Fill a topic once, and let all drain it: flows alone first, then together, each into
        topics of its own.
        """
        plan, measured = self._plan, self.measured
        with ExitStack() as stack:
            alone = stack.enter_context(sandbox(self._services, name, form=plan.form))
            filled = fill(alone, plan.events, plan.scenario)
            measured.generator.append(filled)
            self._say(
                f"generator      {filled.sending_eps:>9,.0f}/s sending, {filled.process_eps:,.0f}/s"
                " whole process"
            )
            found: set[int] = set()
            if {"clean", "metrics"} & set(plan.steps):
                measured.clean.append(self._drain("clean", alone, ("clean",), filled.records))
            if "metrics" in plan.steps:
                measured.metrics.append(self._drain("metrics", alone, ("metrics",), filled.records))
                found.add(counted(alone))
            if "chain" in plan.steps:
                with sandbox(
                    self._services,
                    f"{name}-chain",
                    raw=alone.settings.topic("topic_raw_web"),
                    form=plan.form,
                ) as chain:
                    measured.chain.append(
                        self._drain("chain", chain, UPSTREAM_FIRST, filled.records)
                    )
                    found.add(check_chain(chain, filled.records))
            if len(found) > 1:
                raise BenchError(f"metrics alone and the chain count differently: {sorted(found)}")
            if plan.batch_too and not measured.batch_chain:
                self._batch_form(name, alone.settings.topic("topic_raw_web"), filled)

    def _batch_form(self, name: str, raw: str, filled: Filled) -> None:
        """The same backlog with batches on clean.web, once."""
        with sandbox(self._services, f"{name}-batch", raw, "batch") as there:
            self.measured.batch_clean.append(
                self._drain("clean, batches", there, ("clean",), filled.records)
            )
        with sandbox(self._services, f"{name}-batch-chain", raw, "batch") as there:
            self.measured.batch_chain.append(
                self._drain("chain, batches", there, UPSTREAM_FIRST, filled.records)
            )
            check_chain(there, filled.records)

    def _drain(self, what: str, where: Sandbox, flows: tuple[str, ...], records: int) -> Drained:
        found = drain(self._services, where, flows, records)
        self._say(
            f"{what:<14} {found.work_eps:>9,.0f}/s work, {found.start_eps:,.0f}/s from the"
            f" start{noise(found.spent)}"
        )
        return found

    def _latency(self, rate: int) -> None:
        with sandbox(self._services, f"{self._id}-{rate}", form=self._plan.form) as there:
            found = wait(self._services, there, rate, LATENCY_SECONDS, self._plan.scenario)
            if self._plan.scenario == HEALTHY:
                check_counted(there, found.report.sent)
        self.measured.latency.append(found)
        self._say(
            f"latency        at {rate:,}/s p50 {found.latency.p50:.0f} ms, p99"
            f" {found.latency.p99:.0f} ms, generator at most {found.report.behind_max_ms:.0f} ms"
            f" behind{noise(found.spent)}"
        )

    def _verify(self) -> None:
        """Drain a smaller backlog with an answer key, and compare record by record and cell by
        cell.
        """
        events = min(self._plan.events, VERIFIED_EVENTS)
        with sandbox(self._services, f"{self._id}-verify", form=self._plan.form) as there:
            ledger = there.logs / "ledger"
            filled = fill(there, events, self._plan.scenario, ("--ledger", str(ledger)))
            drain(self._services, there, UPSTREAM_FIRST, filled.records)
            self.measured.verified = verify(there, ledger)
        self._say(self.measured.verified)


def noise(spent: Spent) -> str:
    return (
        f" (others took {spent.others_ratio:.0%} of the machine)"
        if spent.others_ratio > NOISE
        else ""
    )
