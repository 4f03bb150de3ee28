"""Let flows read a topic that was filled before, and see by their commits how fast they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.resources import Look, Meter, Spent, between, peak_mib
from bench.sandbox import Sandbox
from shopstream.demo.dev_services import Services
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.supervisor import Supervisor

# a look asks the broker six small questions: at this pause they cost it less than a hundredth of a
# core
LOOK_SECONDS = 0.05
STALLED_SECONDS = 60.0


@dataclass(frozen=True)
class Drained:
    """How a backlog went.

    Time: `work_seconds` from the first commit that was seen to the last, for the `work_events` that
    came after it;
    `start_seconds` from the start of the processes to the last commit, for all.
    """

    events: int
    work_events: float
    work_seconds: float
    start_seconds: float
    spent: Spent
    rss_mib: dict[str, float]

    @property
    def work_eps(self) -> float:
        return self.work_events / self.work_seconds

    @property
    def start_eps(self) -> float:
        return self.events / self.start_seconds

    @property
    def cpu_s_per_million(self) -> dict[str, float]:
        return {name: seconds / self.work_events * 1e6 for name, seconds in self.spent.cpu.items()}

    def row(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "work_eps": round(self.work_eps),
            "start_eps": round(self.start_eps),
            "work_seconds": round(self.work_seconds, 2),
            "others_cpu_ratio": round(self.spent.others_ratio, 3),
            "cpu_s_per_million": rounded(self.cpu_s_per_million, 2),
            "rss_mib": rounded(self.rss_mib, 0),
        }


def rounded(numbers: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in numbers.items()}


class Running:
    """Flows that run. A flow that ends is an error: a bench with restarts measures restarts."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._children = supervisor.children

    @property
    def began(self) -> float:
        """Monotonic time at which the first process was started."""
        return min(child.started for child in self._children)

    @property
    def pids(self) -> dict[str, int]:
        """Flow -> pid. Errors: BenchError for a flow that ended."""
        found = {}
        for child in self._children:
            if child.process is None or child.process.poll() is not None:
                raise BenchError(f"flow {child.name} ended: see {child.log}")
            found[child.name] = child.process.pid
        return found

    @property
    def reading(self) -> bool:
        """Whether every flow has found its partitions."""
        return all(child.reading for child in self._children)

    def rss_mib(self) -> dict[str, float]:
        """Flow -> the most memory that it had."""
        return {name: peak_mib(pid) for name, pid in self.pids.items()}


@contextmanager
def running(sandbox: Sandbox, flows: Sequence[str]) -> Iterator[Running]:
    """Run flows as `shopstream up` does, or only some of them."""
    supervisor = Supervisor(sandbox.environment, sandbox.logs)
    supervisor.children = [child for child in supervisor.children if child.name in flows]
    with supervisor:
        yield Running(supervisor)


def drain(services: Services, sandbox: Sandbox, flows: Sequence[str], events: int) -> Drained:
    """Run `flows`, upstream first, until each has committed all that is there. Errors: BenchError
    when one stops.
    """
    with Lags(sandbox.settings) as lags, Meter(services, sandbox.name) as meter:
        lags.all()  # connects
        with running(sandbox, flows) as processes:
            return watch(processes, lags, meter, flows, events)


def watch(
    processes: Running, lags: Lags, meter: Meter, flows: Sequence[str], events: int
) -> Drained:
    first: tuple[Look, float] | None = None
    for flow in flows:
        for lag in progress(processes, lags, flow):
            # the share that was done when the clock begins is not counted: how long it took is not
            # known
            if first is None and lag.records < lag.total:
                first = meter.look(processes.pids), lag.records / lag.total
    last = meter.look(processes.pids)
    if first is None or first[1] == 0:
        raise BenchError(f"{events} events are drained with one commit: measure with more --events")
    began, left = first
    return Drained(
        events,
        events * left,
        last.at - began.at,
        last.at - processes.began,
        between(began, last),
        processes.rss_mib(),
    )


def progress(processes: Running, lags: Lags, flow: str) -> Iterator[Lag]:
    """The lag of a flow, again and again, until there is none. Errors: BenchError when it stalls or
    its topic loses records.
    """
    moved, behind, total = time.monotonic(), -1, 0
    while True:
        lag = lags.of(flow)
        if lag.total < total:  # else the flow would seem to have drained what is gone
            raise BenchError(
                f"the topic of {flow} held {total} records and now {lag.total}: someone else"
                " deletes"
            )
        total = lag.total
        yield lag
        if not lag.records:
            return
        if lag.records != behind:
            moved, behind = time.monotonic(), lag.records
        elif time.monotonic() - moved > STALLED_SECONDS:
            raise BenchError(f"flow {flow} stands still with {lag.records} records to go")
        assert processes.pids
        time.sleep(LOOK_SECONDS)
