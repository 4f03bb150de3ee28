"""Which ends of a supervised process are followed by a start."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shopstream.supervise.child import Child, Job

PATIENCE_SECONDS = 20.0


@contextmanager
def running(tmp_path: Path, program: str) -> Iterator[Child]:
    child = Child("job", Job("job", ("-c", program), "begun"), os.environ, tmp_path / "job.log")
    child.start()
    try:
        yield child
    finally:
        if child.process is not None:
            child.process.kill()
            child.process.wait()
        child.close()


def await_end(child: Child) -> None:
    assert child.process is not None
    child.process.wait(PATIENCE_SECONDS)
    child.tend()


def tend_until_restarted(child: Child) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while child.restarts == 0 and time.monotonic() < until:
        child.tend()
        time.sleep(0.05)
    return child.restarts > 0


def tend_past_the_pause(child: Child) -> None:
    until = time.monotonic() + 1.0  # the first pause is at most half a second
    while time.monotonic() < until:
        child.tend()
        time.sleep(0.05)


@pytest.mark.parametrize("code", [0, 1, 4])
def test_an_end_that_nobody_asked_for_is_followed_by_a_start(tmp_path: Path, code: int) -> None:
    with running(tmp_path, f"raise SystemExit({code})") as child:
        await_end(child)
        assert child.state.endswith(f"(exit {code})")
        assert tend_until_restarted(child)


@pytest.mark.parametrize("code", [2, 3])
def test_a_wrong_setting_and_an_operators_matter_are_final(tmp_path: Path, code: int) -> None:
    with running(tmp_path, f"raise SystemExit({code})") as child:
        await_end(child)
        tend_past_the_pause(child)
        assert child.restarts == 0


@pytest.mark.parametrize(("code", "state"), [(0, "stopped"), (4, "stopped (exit 4)")])
def test_nothing_starts_again_while_the_supervisor_stops(
    tmp_path: Path, code: int, state: str
) -> None:
    with running(tmp_path, f"raise SystemExit({code})") as child:
        await_end(child)
        child.stopping = True
        tend_past_the_pause(child)
        assert (child.restarts, child.state) == (0, state)
