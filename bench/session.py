"""What every bench does around its measuring: services, lock, signals, errors, results."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench.resources import machine
from bench.sandbox import exclusive_bench
from flows.domain.errors import ShopstreamError
from flows.runtime.paths import ROOT
from flows.runtime.settings import settings_or_exit
from shopstream.demo.dev_services import Services, native


def run(work: Callable[[Services], None]) -> int:
    """Measure on the real services while no other bench does, and give the exit code."""
    settings_or_exit()
    services = native()
    if services is None:
        print("bench: the real services are not up: run `make services`", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with exclusive_bench(services):
            work(services)
    except KeyboardInterrupt:
        print("bench: interrupted; its topics and databases are removed", file=sys.stderr)
        return 130
    except ShopstreamError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def about(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Describe a run, to judge its figures by."""
    return {
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", module, *arguments]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": [round(average, 2) for average in os.getloadavg()],
    }


def write(figures: dict[str, Any], path: Path) -> None:
    """Write the results, and print where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written to {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


def interrupt(number: int, frame: FrameType | None) -> None:
    """Turn the first signal into KeyboardInterrupt, so that everything is removed."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def commit() -> str | None:
    """Give the commit that is measured; `-dirty` marks a tree that differs from it."""
    process = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return process.stdout.strip() or None
