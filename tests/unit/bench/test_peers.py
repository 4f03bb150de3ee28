"""The job of the other engine fills the tables that ours are compared with."""

from __future__ import annotations

import re

import pytest

from bench.drain import DrainResult
from bench.peers.__main__ import medians, pair
from bench.peers.flink_sql import SOURCES
from bench.resources import CpuUsage
from flows.domain.metrics import MetricTable
from flows.domain.web.metrics import METRICS

JOB = (SOURCES / "job.sql").read_text()


def run(cpu: dict[str, float], seconds: float, rss_mib: dict[str, float]) -> DrainResult:
    usage = CpuUsage(seconds, cpu, 0.0, 0.0, 0.0)
    return DrainResult(1_000_000, 1_000_000, seconds, seconds + 2, usage, rss_mib)


@pytest.mark.parametrize("table", METRICS, ids=lambda table: table.name)
def test_the_job_writes_the_columns_of_the_catalogue(table: MetricTable) -> None:
    declared = re.search(rf"CREATE TABLE {table.name} \((.*?)PRIMARY KEY \((.*?)\)", JOB, re.DOTALL)
    assert declared is not None
    keys = ["window_start", *(d.name for d in table.by)]
    columns = [column.split()[0].strip("`") for column in declared[1].split(",") if column.strip()]
    assert columns == [*keys, *(measure.name for measure in table.stored)]
    assert [key.strip() for key in declared[2].split(",")] == keys


def test_a_pair_compares_the_engines_alone() -> None:
    ours = run({"clean": 3.0, "metrics": 2.0, "broker": 9.0}, 5.0, {"clean": 300, "metrics": 100})
    theirs = run({"flink": 20.0, "postgres": 9.0}, 10.0, {"flink": 2_000})
    both = pair(ours, theirs, {})
    assert both["ratios"] == {
        "eps": 2.0,
        "from_process_start_eps": 1.714,
        "cpu_s_per_million": 0.25,
        "rss_mib": 0.2,
    }
    assert medians([both, both, both])["ratios"] == both["ratios"]
