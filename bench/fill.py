"""Fill the raw topic by the generator in its own process, and measure it."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.sandbox import Sandbox
from flows.runtime.paths import ROOT

# Events per second of event time: with 60 s of allowed lateness clean keeps 300,000 ids.
DENSITY = 5_000
HEALTHY = "perf"  # the scenario without faults: all that is sent is accepted
REPORT_LINE = re.compile(r"sent (\d+) records .* in [\d.]+ s, ([\d,]+)/s")


@dataclass(frozen=True)
class FillResult:
    """What the generator sent.

    Time: `sending_eps` by its own clock around sending, `process_eps` over the whole process,
    imports included.
    """

    records: int
    sending_eps: float
    process_eps: float
    cpu_seconds: float

    def row(self) -> dict[str, Any]:
        """Give the figures of this run for the results."""
        return {
            "records": self.records,
            "sending_eps": round(self.sending_eps),
            "process_eps": round(self.process_eps),
            "cpu_s_per_million": round(self.cpu_seconds / self.records * 1e6, 2),
        }


def parse_report(text: str) -> tuple[int, float]:
    """Read records and records per second from the generator's output.

    Errors: BenchError when there is no such line.
    """
    line = REPORT_LINE.search(text)
    if line is None:
        raise BenchError(f"the generator did not say what it sent: {text.strip()[-300:]}")
    return int(line[1]), float(line[2].replace(",", ""))


def fill(sandbox: Sandbox, events: int, scenario: str, options: Sequence[str] = ()) -> FillResult:
    """Send events as fast as possible.

    Errors: BenchError when the generator fails.
    """
    command = [
        sys.executable,
        "-m",
        "generators",
        "run",
        "--scenario",
        scenario,
        "--speed",
        "0",
        "--rate",
        str(DENSITY),
        "--events",
        str(events),
        *options,
    ]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **sandbox.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise BenchError(
            f"the generator ended with {process.returncode}: {process.stderr.strip()[-300:]}"
        )
    records, per_second = parse_report(process.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return FillResult(records, per_second, records / seconds, cpu)
