"""Drills of broken services as a user runs them, the quick ones; `make drills` runs all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT

pytestmark = [pytest.mark.services]
COMMAND = [sys.executable, "-m", "shopstream", "drill"]


@pytest.mark.parametrize("drill", ["kill"])
def test_a_drill_under_load_proves_its_numbers(drill: str) -> None:
    command = [*COMMAND, drill, "--small", "--seed", "7"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{drill} passed" in ended.stdout


def test_a_power_cut_is_told_exactly_and_the_rest_is_right() -> None:
    ended = subprocess.run(
        [*COMMAND, "power", "--small", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "power passed" in ended.stdout


def test_a_drill_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    drill = subprocess.Popen(
        [*COMMAND, "power", "--small"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: any("-m\0flows.runtime.launch" in c for c in children_of(drill.pid)))
    finally:
        drill.send_signal(signal.SIGKILL)
        drill.wait()
    wait_for(lambda: not any(str(tmp_path) in command for command in commands()))
    wait_for(lambda: list(tmp_path.iterdir()) == [])


def wait_for(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.2)


def commands() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return lines


def children_of(pid: int) -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"\nPPid:\t{pid}\n" in (path / "status").read_text():
                lines.append((path / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return lines
