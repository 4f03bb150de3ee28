"""RetentionPolicy the flows and jobs running: each its own process, started again when it fails for
a reason that passes.
"""

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

from database.annotations import Annotation, Kind
from database.log import ROLLING_UP
from flows.domain.errors import ConfigError, PermanentError
from flows.registry import FLOWS
from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name
from shopstream.supervise.telemetry_ports import FIRST_PORT, Port, forget_targets, tell_prometheus
from shopstream.supervise.told import has_said, is_reading, last_words

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# a process that ran this long has recovered: the next failure waits shortly again
STEADY_SECONDS = 60.0
FINAL = {ConfigError.exit_code, PermanentError.exit_code}
STATES = {
    0: "stopped",
    ConfigError.exit_code: "wrong setting",
    PermanentError.exit_code: "needs an operator",
}


def die_with_parent() -> None:
    """In the child: end when the supervisor is gone, however it went (Linux; elsewhere its operator
    has to look).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass(frozen=True)
class Job:
    """What a process runs. `ready` tells by its log, from a byte on, whether it has begun."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[Path, int], bool]


def is_rolling_up(log: Path, start: int) -> bool:
    return has_said(ROLLING_UP, log, start)


ROLLUP = Job("rollup", ("-m", "shopstream", "rollup", "--every", "10"), is_rolling_up)


def flow_job(flow: str) -> Job:
    return Job(flow, ("-m", "flows.runtime.launch", flow), is_reading)


@dataclass
class Child:
    """One process and its history."""

    name: str
    job: Job
    environment: Mapping[str, str]
    log: Path
    port: Port | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    pause: float = FIRST_PAUSE
    again_at: float = 0.0
    exit_code: int | None = None
    ended: int | None = None
    last_words: str = ""
    _said: int = 0
    _file: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        if self._file is None:
            self._file = self.log.open("ab")
        self._said = self.log.stat().st_size
        port = str(self.port.choose() if self.port else 0)
        self.process = subprocess.Popen(
            [sys.executable, *self.job.command],
            cwd=ROOT,
            env={**self.environment, "SHOPSTREAM_TELEMETRY_PORT": port},
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.started, self.exit_code = time.monotonic(), None

    @property
    def flow(self) -> str:
        return self.name.split("/")[0]

    @property
    def reading(self) -> bool:
        """Whether the flow has found its partitions, or the job its work, since its last start: it
        says so in its log.
        """
        return self._file is not None and self.job.ready(self.log, self._said)

    @property
    def telemetry(self) -> str:
        """Where it serves /metrics and /healthz."""
        return f"{self.port.host}:{self.port.number}" if self.port and self.port.number else ""

    @property
    def state(self) -> str:
        if self.process is None:
            return "not started"
        if self.exit_code is None:
            return f"running, pid {self.process.pid}"
        if self.exit_code in FINAL or self.exit_code == 0:
            return STATES[self.exit_code]
        return (
            f"starts again in {max(0.0, self.again_at - time.monotonic()):.0f} s (exit"
            f" {self.exit_code})"
        )

    def tend(self) -> None:
        """Notice an end, and start again when its time has come."""
        if self.process is None:
            return
        if self.exit_code is None:
            code = self.process.poll()
            if code is None:
                return
            self.exit_code = self.ended = code
            self.last_words = last_words(self.log, self._said)
            if time.monotonic() - self.started > STEADY_SECONDS:
                self.pause = FIRST_PAUSE
            self.again_at = time.monotonic() + self.pause * random.uniform(0.5, 1.0)
            self.pause = min(self.pause * 2, LONGEST_PAUSE)
        elif (
            self.exit_code not in FINAL
            and self.exit_code != 0
            and time.monotonic() >= self.again_at
        ):
            self.restarts += 1
            self.start()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self.port is not None:
            self.port.release()


class Supervisor:
    """All flows, `processes` of clean and of metrics, one of the others and of each job. `tell`
    hears of restarts.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        logs: Path,
        processes: int = 1,
        jobs: Sequence[Job] = (),
        tell: Callable[[Annotation], None] = lambda _: None,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._tell = tell
        self.children: list[Child] = []
        told = {**os.environ, **environment}
        for number, flow in enumerate(FLOWS):
            count = processes if flow.scales else 1
            for ordinal in range(count):
                name = flow.name if count == 1 else f"{flow.name}/{ordinal}"
                share = {"SHOPSTREAM_ORDINAL": str(ordinal), "SHOPSTREAM_COUNT": str(count)}
                log = logs / f"{name.replace('/', '-')}.log"
                self.children.append(
                    Child(
                        name,
                        flow_job(flow.name),
                        {**told, **share},
                        log,
                        port_of(told, number + 10 * ordinal),
                    )
                )
        for job in jobs:
            self.children.append(Child(job.name, job, told, logs / f"{job.name}.log"))

    def __enter__(self) -> Supervisor:
        for child in self.children:
            child.start()
        self._tell_prometheus()
        return self

    def _tell_prometheus(self) -> None:
        tell_prometheus((c.flow, c.port.reached_at, c.port.number) for c in self.children if c.port)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tend(self) -> None:
        before = self.restarts
        for child in self.children:
            restarts = child.restarts
            child.tend()
            if child.restarts > restarts:
                title = f"{child.name} restarted"
                self._tell(
                    Annotation(
                        Kind.RESTART,
                        title,
                        child.last_words,
                        (child.job.name, f"exit {child.ended}"),
                    )
                )
        if self.restarts > before:  # one of them may have had to take another port
            self._tell_prometheus()

    @property
    def restarts(self) -> int:
        return sum(child.restarts for child in self.children)

    def wait_until_reading(self, patience_seconds: float) -> None:
        """Wait until every flow reads its topic or has failed; what comes then meets flows that are
        there.
        """
        until = time.monotonic() + patience_seconds
        while time.monotonic() < until and not all(
            c.reading or c.exit_code is not None for c in self.children
        ):
            self.tend()
            time.sleep(0.05)

    @property
    def hopeless(self) -> list[Child]:
        """Flows that a restart would not help."""
        return [c for c in self.children if c.exit_code in FINAL]

    def stop(self, patience_seconds: float = 30.0) -> None:
        """Let all drain and commit; end by force what does not."""
        running = [
            c.process for c in self.children if c.process is not None and c.process.poll() is None
        ]
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
        forget_targets()


def port_of(environment: Mapping[str, str], index: int) -> Port | None:
    """The port that a flow gets if it is free: counted from the one that is set; 0 sets none for
    all.
    """
    first = int(environment.get(environment_name("telemetry_port")) or FIRST_PORT)
    host = environment.get(environment_name("telemetry_host")) or FIELDS["telemetry_host"].default
    return Port(host, first + index) if first else None
