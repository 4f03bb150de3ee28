"""`make demo` as a user runs it: it proves its numbers, and leaves nothing when it is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT, WORK
from tests.support.stack import wait_until

COMMAND = ["make", "--silent", "demo", "EMBEDDED=1", "RATE=300"]


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line or str(folder) in environment:
            found.append(line)
    return found


@pytest.fixture
def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("SHOPSTREAM_", "KAFKA_"))}


def test_make_demo_ends_verified(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "DURATION=4"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"verified: [1-9]\d+ events, [1-9]\d+ rows, 0 differences", last)


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A demo in mid-run, and its folder."""
    process = subprocess.Popen(
        [*COMMAND, "DURATION=60"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    folder = None
    for line in process.stdout:
        if (named := re.search(r"logs and ledger in (\S+)|ledger in (\S+)", line)) is not None:
            folder = Path(named[1] or named[2])
        if "sent" in line and folder is not None:
            break
    assert folder is not None
    try:
        yield process, folder
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_a_demo_that_is_killed_leaves_nothing_running(
    running: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = running
    assert folder.is_relative_to(WORK)
    assert processes_of(folder)
    process.kill()
    process.wait(20)
    wait_until("its processes to end", lambda: not processes_of(folder), 30)
    assert not (folder / "postgres").exists()
