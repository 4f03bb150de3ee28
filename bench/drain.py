"""Let flows read a topic that was filled before, and measure by their commits how fast they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.resources import CpuSample, CpuUsage, Meter, peak_mib, usage_between
from bench.sandbox import Sandbox
from shopstream.demo.dev_services import Services
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.supervisor import Supervisor

# A sample of the lag sends the broker six small requests: with this pause they take it less than a
# hundredth of a core.
SAMPLE_SECONDS = 0.05
STALLED_SECONDS = 60.0


@dataclass(frozen=True)
class DrainResult:
    """How a backlog was drained.

    Time: `work_seconds` from the first commit that was seen to the last, for the `work_events` that
    came after it; `start_seconds` from the start of the processes to the last commit, for all.
    """

    events: int
    work_events: float
    work_seconds: float
    start_seconds: float
    usage: CpuUsage
    rss_mib: dict[str, float]

    @property
    def work_eps(self) -> float:
        """Give the events per second between the first commit and the last."""
        return self.work_events / self.work_seconds

    @property
    def start_eps(self) -> float:
        """Give the events per second from the start of the processes."""
        return self.events / self.start_seconds

    @property
    def cpu_s_per_million(self) -> dict[str, float]:
        """Give CPU seconds per million events, by process."""
        return {name: seconds / self.work_events * 1e6 for name, seconds in self.usage.cpu.items()}

    def row(self) -> dict[str, Any]:
        """Give the figures of this run for the results."""
        return {
            "events": self.events,
            "work_eps": round(self.work_eps),
            "start_eps": round(self.start_eps),
            "work_seconds": round(self.work_seconds, 2),
            **self.usage.shares(),
            "cpu_s_per_million": rounded(self.cpu_s_per_million, 2),
            "rss_mib": rounded(self.rss_mib, 0),
        }


def rounded(numbers: dict[str, float], digits: int) -> dict[str, float]:
    """Round each number."""
    return {name: round(value, digits) for name, value in numbers.items()}


class RunningFlows:
    """Flows that run; one that ends is an error, for a bench with restarts measures restarts."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._children = supervisor.children

    @property
    def began(self) -> float:
        """Give the monotonic time at which the first process was started."""
        return min(child.started for child in self._children)

    @property
    def pids(self) -> dict[str, int]:
        """Give the process id of each flow.

        Errors: BenchError for a flow that ended.
        """
        pids = {}
        for child in self._children:
            if child.process is None or child.process.poll() is not None:
                raise BenchError(f"flow {child.name} ended: see {child.log}")
            pids[child.name] = child.process.pid
        return pids

    @property
    def reading(self) -> bool:
        """Tell whether every flow has its partitions."""
        return all(child.reading for child in self._children)

    def rss_mib(self) -> dict[str, float]:
        """Give the peak memory of each flow."""
        return {name: peak_mib(pid) for name, pid in self.pids.items()}


@contextmanager
def run_flows(sandbox: Sandbox, flows: Sequence[str]) -> Iterator[RunningFlows]:
    """Run all flows or some of them as `shopstream up` does."""
    supervisor = Supervisor(sandbox.environment, sandbox.logs)
    supervisor.children = [child for child in supervisor.children if child.name in flows]
    with supervisor:
        yield RunningFlows(supervisor)


def drain(services: Services, sandbox: Sandbox, flows: Sequence[str], events: int) -> DrainResult:
    """Run `flows`, upstream first, until each has committed everything on its topic.

    Errors: BenchError when a flow stops.
    """
    with Lags(sandbox.settings) as lags, Meter(services, sandbox.name) as meter:
        lags.all()  # connects before the clock begins
        with run_flows(sandbox, flows) as processes:
            return measure(processes, lags, meter, flows, events)


def drain_unmeasured(sandbox: Sandbox, flows: Sequence[str]) -> None:
    """Do the same where only what they count matters, however few records there are.

    Errors: BenchError when a flow stops.
    """
    with Lags(sandbox.settings) as lags, run_flows(sandbox, flows) as processes:
        for flow in flows:
            for _ in lags_until_drained(processes, lags, flow):
                pass


def measure(
    processes: RunningFlows, lags: Lags, meter: Meter, flows: Sequence[str], events: int
) -> DrainResult:
    """Follow the commits of running flows until there is no lag.

    Errors: BenchError when a flow stalls or ends, or when one commit drained everything.
    """
    first: tuple[CpuSample, float] | None = None
    for flow in flows:
        for lag in lags_until_drained(processes, lags, flow):
            # What was drained by the first commit is not counted: how long it took is not known.
            if first is None and lag.records < lag.total:
                first = meter.sample(processes.pids), lag.records / lag.total
    last = meter.sample(processes.pids)
    if first is None or first[1] == 0:
        raise BenchError(f"{events} events are drained with one commit: measure with more --events")
    first_sample, left_ratio = first
    return DrainResult(
        events=events,
        work_events=events * left_ratio,
        work_seconds=last.at - first_sample.at,
        start_seconds=last.at - processes.began,
        usage=usage_between(first_sample, last),
        rss_mib=processes.rss_mib(),
    )


def lags_until_drained(processes: RunningFlows, lags: Lags, flow: str) -> Iterator[Lag]:
    """Sample the lag of a flow until there is none.

    Errors: BenchError when the flow ends or stalls, or when its topic loses records.
    """
    moved_at, behind, total = time.monotonic(), -1, 0
    while True:
        lag = lags.of(flow)
        if lag.total < total:  # deleted records would count as drained
            raise BenchError(
                f"the topic of {flow} held {total} records and now {lag.total}: someone else"
                " deletes"
            )
        total = lag.total
        yield lag
        if not lag.records:
            return
        if lag.records != behind:
            moved_at, behind = time.monotonic(), lag.records
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise BenchError(f"flow {flow} stands still with {lag.records} records to go")
        assert processes.pids  # raises for a flow that ended
        time.sleep(SAMPLE_SECONDS)
