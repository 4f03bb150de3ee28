"""A process that runs a flow gives Polars one thread; every other program keeps its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flows.registry import FLOWS
from flows.runtime.paths import ROOT

pytestmark = pytest.mark.slow  # each test starts a Python
RUNS_A_FLOW = [*(flow.module for flow in FLOWS), "flows.runtime.launch"]


def output_of(script: str, **environment: str) -> str:
    """What a fresh Python prints, with nothing in its environment but this."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT), **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


@pytest.mark.parametrize("module", RUNS_A_FLOW)
def test_a_flow_gives_polars_one_thread(module: str) -> None:
    assert output_of(f"import {module}, polars; print(polars.thread_pool_size())") == "1"


def test_a_number_that_is_set_stays() -> None:
    script = "import flows.clean, polars; print(polars.thread_pool_size())"
    assert output_of(script, POLARS_MAX_THREADS="3") == "3"


def test_a_program_that_only_imports_the_package_keeps_its_threads() -> None:
    script = """
import os, flows.domain.counting, flows.connectors.timescale, flows.runtime.settings
print(os.environ.get("POLARS_MAX_THREADS"))
"""
    assert output_of(script) == "None"
