"""Keep the flows and jobs running, each in a process of its own.

A process that ends before it is asked to is started again; exit codes 2 and 3 are final.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from database.annotations import Annotation, Kind
from flows.registry import FLOWS
from flows.runtime.settings import FIELDS, environment_name
from shopstream.supervise.child import FINAL, Child, Job, flow_job
from shopstream.supervise.telemetry_ports import (
    FIRST_PORT,
    Port,
    remove_targets,
    write_targets,
)

LOOK_SECONDS = 0.1


class Supervisor:
    """All flows and jobs: `processes` of each flow that scales, one of every other.

    `on_restart` gets an annotation for each process that was started again.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        logs: Path,
        processes: int = 1,
        jobs: Sequence[Job] = (),
        on_restart: Callable[[Annotation], None] = lambda _: None,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._on_restart = on_restart
        self.children: list[Child] = []
        inherited = {**os.environ, **environment}
        for number, flow in enumerate(FLOWS):
            count = processes if flow.scales else 1
            for ordinal in range(count):
                name = flow.name if count == 1 else f"{flow.name}/{ordinal}"
                share = {"SHOPSTREAM_ORDINAL": str(ordinal), "SHOPSTREAM_COUNT": str(count)}
                log = logs / f"{name.replace('/', '-')}.log"
                port = port_of(inherited, number + 10 * ordinal)
                self.children.append(
                    Child(name, flow_job(flow.name), {**inherited, **share}, log, port)
                )
        for job in jobs:
            self.children.append(Child(job.name, job, inherited, logs / f"{job.name}.log"))

    def __enter__(self) -> Supervisor:
        for child in self.children:
            child.start()
        self._write_targets()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tend(self) -> None:
        """Notice what ended, and start again what has to."""
        restarts_before = self.restarts
        for child in self.children:
            restarts = child.restarts
            child.tend()
            if child.restarts > restarts:
                self._on_restart(_restart_of(child))
        if self.restarts > restarts_before:  # one of them may have had to take another port
            self._write_targets()

    def _write_targets(self) -> None:
        write_targets((c.flow, c.port.reached_at, c.port.number) for c in self.children if c.port)

    @property
    def restarts(self) -> int:
        """How often any process was started again."""
        return sum(child.restarts for child in self.children)

    def wait_until_reading(self, patience_seconds: float) -> None:
        """Wait until every process has begun its work or has failed."""
        until = time.monotonic() + patience_seconds
        while time.monotonic() < until and not all(
            child.exit_code is not None or child.reading for child in self.children
        ):
            self.tend()
            time.sleep(LOOK_SECONDS)

    @property
    def hopeless(self) -> list[Child]:
        """Processes that a restart would not help."""
        return [c for c in self.children if c.exit_code in FINAL]

    def stop(self, patience_seconds: float = 30.0) -> None:
        """Let all drain and commit; end by force what does not."""
        for child in self.children:
            child.stopping = True
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
        remove_targets()


def port_of(environment: Mapping[str, str], index: int) -> Port | None:
    """Give the port that a flow gets if it is free, counted from the one that is set.

    0 in the setting means no port for any flow.
    """
    first = int(environment.get(environment_name("telemetry_port")) or FIRST_PORT)
    host = environment.get(environment_name("telemetry_host")) or FIELDS["telemetry_host"].default
    return Port(host, first + index) if first else None


def _restart_of(child: Child) -> Annotation:
    tags = (child.job.name, f"exit {child.last_exit_code}")
    return Annotation(Kind.RESTART, f"{child.name} restarted", child.last_words, tags)
