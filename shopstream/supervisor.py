"""Keep the flows and jobs running: each its own process, started again when it fails for a reason that passes."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flows.domain.errors import ConfigError, PermanentError
from flows.runtime.annotations import Annotation, Kind
from flows.runtime.launch import FLOWS
from flows.runtime.services import ROOT

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# a process that ran this long has recovered: the next failure waits shortly again
STEADY_SECONDS = 60.0
FINAL = {ConfigError.exit_code, PermanentError.exit_code}
STATES = {0: "stopped", ConfigError.exit_code: "wrong setting", PermanentError.exit_code: "needs an operator"}


def die_with_parent() -> None:
    """In the child: end when the supervisor is gone, however it went (Linux; elsewhere its operator has to look)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass(frozen=True)
class Job:
    """A process beside the flows. `ready` is in its log when it has begun."""

    name: str
    command: tuple[str, ...]
    ready: str


ROLLUP = Job("rollup", ("-m", "shopstream", "rollup", "--every", "10"), "INFO shopstream.rollup: rolling up ")


def flow_job(flow: str) -> Job:
    return Job(flow, ("-m", "flows.runtime.launch", flow), "INFO flows.connectors.kafka_source: reading ")


@dataclass
class Child:
    """One process and its history."""

    name: str
    job: Job
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    pause: float = FIRST_PAUSE
    again_at: float = 0.0
    exit_code: int | None = None
    ended: int | None = None
    last_words: str = ""
    _file: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        if self._file is None:
            self._file = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *self.job.command],
            cwd=ROOT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.started, self.exit_code = time.monotonic(), None

    @property
    def reading(self) -> bool:
        """Whether the flow has found its partitions, or the job its work: it says so in its log."""
        return self.job.ready in self.log.read_text(errors="replace")

    @property
    def state(self) -> str:
        if self.process is None:
            return "not started"
        if self.exit_code is None:
            return f"running, pid {self.process.pid}"
        if self.exit_code in FINAL or self.exit_code == 0:
            return STATES[self.exit_code]
        return f"starts again in {max(0.0, self.again_at - time.monotonic()):.0f} s (exit {self.exit_code})"

    def tend(self) -> None:
        """Notice an end, and start again when its time has come."""
        if self.process is None:
            return
        if self.exit_code is None:
            code = self.process.poll()
            if code is None:
                return
            self.exit_code = self.ended = code
            self.last_words = last_line(self.log)
            if time.monotonic() - self.started > STEADY_SECONDS:
                self.pause = FIRST_PAUSE
            self.again_at = time.monotonic() + self.pause * random.uniform(0.5, 1.0)
            self.pause = min(self.pause * 2, LONGEST_PAUSE)
        elif self.exit_code not in FINAL and self.exit_code != 0 and time.monotonic() >= self.again_at:
            self.restarts += 1
            self.start()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Supervisor:
    """All flows, `processes` of clean and of metrics, one of the others and of each job. `tell` hears of restarts."""

    def __init__(
        self, environment: Mapping[str, str], logs: Path, processes: int = 1, jobs: Sequence[Job] = (),
        tell: Callable[[Annotation], None] = lambda _: None,
    ) -> None:  # fmt: skip
        logs.mkdir(parents=True, exist_ok=True)
        self._tell = tell
        self.children: list[Child] = []
        for flow in FLOWS:
            count = processes if flow in ("clean", "metrics") else 1
            for ordinal in range(count):
                name = flow if count == 1 else f"{flow}/{ordinal}"
                share = {"SHOPSTREAM_ORDINAL": str(ordinal), "SHOPSTREAM_COUNT": str(count)}
                log = logs / f"{name.replace('/', '-')}.log"
                self.children.append(Child(name, flow_job(flow), {**os.environ, **environment, **share}, log))
        for job in jobs:
            self.children.append(Child(job.name, job, {**os.environ, **environment}, logs / f"{job.name}.log"))

    def __enter__(self) -> Supervisor:
        for child in self.children:
            child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tend(self) -> None:
        for child in self.children:
            restarts = child.restarts
            child.tend()
            if child.restarts > restarts:
                title = f"{child.name} restarted"
                self._tell(Annotation(Kind.RESTART, title, child.last_words, (child.job.name, f"exit {child.ended}")))

    def wait_until_reading(self, patience_seconds: float) -> None:
        """Wait until every flow reads its topic or has failed; what comes then meets flows that are there."""
        until = time.monotonic() + patience_seconds
        while time.monotonic() < until and not all(c.reading or c.exit_code is not None for c in self.children):
            self.tend()
            time.sleep(0.05)

    @property
    def hopeless(self) -> list[Child]:
        """Flows that a restart would not help."""
        return [c for c in self.children if c.exit_code in FINAL]

    def stop(self, patience_seconds: float = 30.0) -> None:
        """Let all drain and commit; end by force what does not."""
        running = [c.process for c in self.children if c.process is not None and c.process.poll() is None]
        for process in running:
            process.terminate()
        until = time.monotonic() + patience_seconds
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self.children:
            child.tend()
            child.close()


def last_line(log: Path) -> str:
    """What a process said last; a stop that we foresaw ends with the line that names its cause."""
    lines = [line for line in log.read_text(errors="replace").splitlines()[-20:] if line.strip()]
    return lines[-1] if lines else ""
