"""The figures of a bench: medians, floors, and other engines, in the README as in the code."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

import bench
from bench.__main__ import parser, steps
from bench.drain import DrainResult, RunningFlows, lags_until_drained, measure
from bench.errors import BenchError
from bench.fill import FillResult, parse_report
from bench.peers.recorded import PEERS
from bench.report import FLOORS, results, show
from bench.resources import CpuSample, CpuUsage, MachineTime, Meter, usage_between
from bench.runner import STEPS, Measurements
from bench.sandbox import describe_sandbox
from shopstream.demo.dev_services import Services
from shopstream.kafka.lag import Lag, Lags


def drained(work_events: float, seconds: float, rss_mib: float) -> DrainResult:
    usage = CpuUsage(seconds, {"clean": 2.0}, 0.0, 0.0, 0.0)
    return DrainResult(1_000_000, work_events, seconds, seconds + 2, usage, {"clean": rss_mib})


def test_what_the_generator_said_is_read() -> None:
    line = (
        "sent 2000000 records (2000000 healthy) in 13.4 s, 149,254/s; behind the schedule p99 0 ms,"
        " max 0 ms\n"
    )
    assert parse_report(line) == (2_000_000, 149_254.0)
    with pytest.raises(BenchError, match="did not say"):
        parse_report("Traceback")


def test_speeds_are_medians_and_memory_is_the_highest() -> None:
    measured = Measurements(
        generator=[
            FillResult(10, 100.0, 50.0, 1.0),
            FillResult(10, 300.0, 60.0, 1.0),
            FillResult(10, 200.0, 70.0, 1.0),
        ],
        chain=[
            drained(900_000, 9.0, 310.0),
            drained(900_000, 3.0, 305.0),
            drained(900_000, 6.0, 300.0),
        ],
    )
    figures = results(measured)
    assert figures["generator_eps"] == 200
    assert figures["from_process_start_eps"]["generator"] == 60
    assert figures["chain_eps"] == 150_000
    assert figures["rss_mib"] == {
        "clean": 310.0,
        "metrics": None,
        "quality": None,
        "deadletters": None,
    }
    assert figures["clean_eps"] is None
    assert figures["cpu_s_per_million"] == {"clean": 2.22}


def test_a_part_of_a_bench_shows_what_it_has() -> None:
    output = io.StringIO()
    show(
        results(Measurements(chain=[drained(800_000, 8.0, 600.0)])), Console(file=output, width=110)
    )
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert ["chain", "100,000", "events/s", "over", "150,000", "NOT", "held"] in lines
    assert ["memory", "of", "clean", "600", "MiB", "under", "500", "NOT", "held"] in lines
    assert not any("generator" in line for line in lines)


def test_floors_are_those_of_the_readme() -> None:
    text = (Path(bench.__file__).parent / "README.md").read_text()
    by_name = {floor.name: floor for floor in FLOORS}
    for name in ("chain", "clean alone", "generator"):
        assert f"{name} {by_name[name].limit:,}" in text
    assert f"under {by_name['p99 at 16,700/s'].limit} ms at 16,700" in text
    assert f"under {by_name['memory of clean'].limit} MiB" in text


def test_figures_of_other_engines_are_those_of_the_readme() -> None:
    text = (Path(bench.__file__).parent / "README.md").read_text()
    for p in PEERS:
        figures = f"{p.events_per_second:,} | {p.cpu_s_per_million} | {p.peak_mib:,} | {p.runs}"
        assert f"| {p.engine} | {p.settings} | {figures} |" in text


def test_steps_run_in_the_order_in_which_they_find_what_they_need() -> None:
    assert parser().parse_args([]).only == STEPS
    assert steps("chain,clean") == ("clean", "chain")
    with pytest.raises(SystemExit):
        parser().parse_args(["--only", "clene"])


def test_cpu_of_a_process_that_came_in_between_counts_from_its_start() -> None:
    first = CpuSample(
        10.0, MachineTime(100.0, 50.0, 1.0), {("clean", 1): 5.0, ("postgres", 2): 7.0}
    )
    last = CpuSample(
        12.0,
        MachineTime(104.0, 50.5, 1.25),
        {("clean", 1): 6.5, ("postgres", 2): 7.25, ("postgres", 3): 0.25},
    )
    usage = usage_between(first, last)
    assert usage.cpu == {"clean": 1.5, "postgres": 0.5}
    assert (usage.seconds, usage.others) == (2.0, 2.0)
    assert (usage.idle, usage.steal) == (0.5, 0.25)


def test_a_sandbox_has_names_of_its_own_and_may_read_the_topic_of_another() -> None:
    services = Services("127.0.0.1:1", "postgresql://user@127.0.0.1:2/shopstream", False)
    own = describe_sandbox(services, "a", None, "event")
    assert own.settings.database_url == "postgresql://user@127.0.0.1:2/shopstream-bench-a"
    assert own.settings.group("clean") == "shopstream-bench-a.clean"
    assert len(own.topics) == len(set(own.topics))
    assert all(topic.startswith("shopstream-bench-a.") for topic in own.topics)
    assert set(own.topics) <= set(own.environment.values())
    reader = describe_sandbox(services, "b", "shopstream-bench-a.raw.web", "batch")
    assert set(own.topics) & set(reader.topics) == {"shopstream-bench-a.raw.web"}


class Commits:
    """A broker that commits a million records in steps."""

    def __init__(self, behind: list[int]) -> None:
        self._behind, self.total = behind, 1_000_000

    def of(self, flow: str) -> Lag:
        return Lag(self._behind.pop(0), self.total)


def measured_with(behind: list[int]) -> DrainResult:
    machine = MachineTime(20.0, 0.0, 0.0)
    samples = iter((CpuSample(11.0, machine, {}), CpuSample(16.0, machine, {})))
    processes = SimpleNamespace(began=10.0, pids={"clean": 1}, rss_mib=lambda: {"clean": 200.0})
    meter = SimpleNamespace(sample=lambda pids: next(samples))
    return measure(
        cast(RunningFlows, processes),
        cast(Lags, Commits(behind)),
        cast(Meter, meter),
        ("clean",),
        1_000_000,
    )


def test_what_the_first_commit_held_is_not_counted_as_work() -> None:
    result = measured_with([1_000_000, 900_000, 400_000, 0])
    assert (result.work_events, result.work_seconds, result.start_seconds) == (900_000, 5.0, 6.0)
    assert result.work_eps == 180_000


def test_a_backlog_that_one_commit_drains_is_too_small() -> None:
    with pytest.raises(BenchError, match="more --events"):
        measured_with([1_000_000, 0])


def test_records_that_someone_deletes_are_not_taken_for_drained() -> None:
    commits = Commits([900_000, 0])
    sampled = lags_until_drained(
        cast(RunningFlows, SimpleNamespace(pids={"clean": 1})), cast(Lags, commits), "clean"
    )
    next(sampled)
    commits.total = 0
    with pytest.raises(BenchError, match="someone else deletes"):
        next(sampled)


def test_the_results_have_the_keys_that_others_read() -> None:
    wanted = {"chain_eps", "clean_eps", "metrics_eps", "generator_eps", "latency_ms", "rss_mib"}
    assert wanted <= results(Measurements()).keys()
