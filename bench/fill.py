"""The generator as its own process: it fills the raw topic, and is measured while it does."""

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

# 5,000 events in a second of event time: with 60 s of allowed lateness clean keeps 300,000 ids
DENSITY = 5_000
SAID = re.compile(r"sent (\d+) records .* in [\d.]+ s, ([\d,]+)/s")


@dataclass(frozen=True)
class Filled:
    """What the generator sent.

    Units: records; records a second by its own clock around sending, and over the whole process,
    imports included.
    """

    records: int
    sending_eps: float
    process_eps: float
    cpu_seconds: float

    def row(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "sending_eps": round(self.sending_eps),
            "process_eps": round(self.process_eps),
            "cpu_s_per_million": round(self.cpu_seconds / self.records * 1e6, 2),
        }


def said(text: str) -> tuple[int, float]:
    """Records and records a second out of the generator's last words. Errors: BenchError when it
    said something else.
    """
    found = SAID.search(text)
    if found is None:
        raise BenchError(f"the generator did not say what it sent: {text.strip()[-300:]}")
    return int(found[1]), float(found[2].replace(",", ""))


def fill(sandbox: Sandbox, events: int, scenario: str, options: Sequence[str] = ()) -> Filled:
    """Send events as fast as it goes. Errors: BenchError when the generator failed."""
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
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **sandbox.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise BenchError(
            f"the generator ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    records, per_second = said(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Filled(records, per_second, records / seconds, cpu)
