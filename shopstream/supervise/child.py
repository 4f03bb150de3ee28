"""One supervised process: its start, whether it has begun, its end, and when it starts again."""

from __future__ import annotations

import ctypes
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from database.log import ROLLING_UP
from flows.domain.errors import ConfigError, PermanentError
from flows.runtime.paths import ROOT
from flows.runtime.telemetry.logs import READING
from shopstream.supervise.process_log import has_logged, last_words
from shopstream.supervise.telemetry_ports import Port

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# a process that ran this long has recovered: the pause after its next failure is short again
STEADY_SECONDS = 60.0
# the thread that serves /healthz may have to wait until a step of the flow releases the GIL
HEALTHZ_SECONDS = 2.0
FINAL = {ConfigError.exit_code, PermanentError.exit_code}
STATES = {
    ConfigError.exit_code: "wrong setting",
    PermanentError.exit_code: "needs an operator",
}


@dataclass(frozen=True)
class Job:
    """What a process runs; `begins_with` is the event that it logs when it has found its work."""

    name: str
    command: tuple[str, ...]
    begins_with: str


ROLLUP = Job("rollup", ("-m", "shopstream", "rollup", "--every", "10"), ROLLING_UP)


def flow_job(flow: str) -> Job:
    """Make the job that runs a flow."""
    return Job(flow, ("-m", "flows.runtime.launch", flow), READING)


@dataclass
class Child:
    """One process and its history.

    State: `exit_code` is None while the process runs; `last_exit_code` outlives a restart;
    `stopping` is set when the supervisor wants it to end, and then nothing starts it again.
    """

    name: str
    job: Job
    environment: Mapping[str, str]
    log: Path
    port: Port | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    exit_code: int | None = None
    last_exit_code: int | None = None
    last_words: str = ""
    stopping: bool = False
    _pause: float = FIRST_PAUSE
    _restart_at: float = 0.0
    _log_start: int = 0
    _log_file: IO[bytes] | None = field(default=None, repr=False)
    at_parents_end: int = signal.SIGTERM

    def start(self) -> None:
        """Start the process; what it prints is appended to its log."""
        if self._log_file is None:
            self._log_file = self.log.open("ab")
        self._log_start = self.log.stat().st_size
        port = str(self.port.choose() if self.port else 0)
        self.process = subprocess.Popen(
            [sys.executable, *self.job.command],
            cwd=ROOT,
            env={**self.environment, "SHOPSTREAM_TELEMETRY_PORT": port},
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=self._log_file,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, self.at_parents_end),
        )
        self.started, self.exit_code = time.monotonic(), None

    @property
    def flow(self) -> str:
        """The flow, without the ordinal of a process that shares its partitions."""
        return self.name.split("/")[0]

    @property
    def reading(self) -> bool:
        """Whether the process runs and has found its partitions, or the job its work.

        A flow says so at /healthz. A process that serves nothing says so in its log.
        """
        if self.process is None or self.exit_code is not None:
            return False
        if self.port is not None and self.port.number:
            line = healthz(self.port)
            return bool(line) and not line.startswith("starting")
        return has_logged(self.job.begins_with, self.log, self._log_start)

    @property
    def telemetry(self) -> str:
        """Where it serves /metrics and /healthz."""
        return f"{self.port.host}:{self.port.number}" if self.port and self.port.number else ""

    @property
    def state(self) -> str:
        """What an operator wants to know of the process, in a few words."""
        if self.process is None:
            return "not started"
        if self.exit_code is None:
            return f"running, pid {self.process.pid}"
        if self.exit_code in STATES:
            return STATES[self.exit_code]
        if self.stopping:
            return "stopped" if self.exit_code == 0 else f"stopped (exit {self.exit_code})"
        seconds = max(0.0, self._restart_at - time.monotonic())
        return f"starts again in {seconds:.0f} s (exit {self.exit_code})"

    def tend(self) -> None:
        """Notice an end, and start again when its time has come."""
        if self.process is None:
            return
        if self.exit_code is None:
            code = self.process.poll()
            if code is not None:
                self._ended(code)
        elif self._may_start_again and time.monotonic() >= self._restart_at:
            self.restarts += 1
            self.start()

    @property
    def _may_start_again(self) -> bool:
        # exit 0 nobody here asked for is a SIGTERM from outside: the work is not done
        return not self.stopping and self.exit_code not in FINAL

    def _ended(self, code: int) -> None:
        self.exit_code = self.last_exit_code = code
        self.last_words = last_words(self.log, self._log_start)
        if time.monotonic() - self.started > STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        # jittered, so that flows that fail together do not come back together
        self._restart_at = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        """Close the log and give the port back; the process must have ended."""
        if self._log_file is not None:
            self._log_file.close()
        if self.port is not None:
            self.port.release()


def healthz(port: Port) -> str:
    """Ask a flow for its verdict on itself; empty while nobody answers."""
    connection = HTTPConnection(port.reached_at, port.number, timeout=HEALTHZ_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, HTTPException):
        return ""
    finally:
        connection.close()


def die_with_parent(number: int) -> None:
    """Run in the child: get a signal when the parent is gone, however it went.

    Linux only; elsewhere an operator has to end what a killed supervisor left.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)
