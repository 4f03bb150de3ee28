"""`python -m bench`: measure, check, write `bench/results/latest.json` and print a table."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from bench.fill import HEALTHY
from bench.report import results, show
from bench.resources import machine
from bench.runner import STEPS, Bench, Plan
from bench.sandbox import FOLDER, exclusive_bench
from bench.sweeps import FULL, QUICK, SWEEPS
from flows.domain.errors import ShopstreamError
from flows.runtime.paths import ROOT
from flows.runtime.settings import PREFIX, settings_or_exit
from generators.scenarios import SCENARIOS
from shopstream.demo.dev_services import native

LATEST = Path(__file__).parent / "results" / "latest.json"
WIDTH = 110  # of the table in a log; a terminal has its own
PART = FOLDER / "part.json"


def main(arguments: Sequence[str]) -> int:
    """Measure, write the results, and give the exit code."""
    args = parser().parse_args(arguments)
    settings_or_exit()
    services = native()
    if services is None:
        print("bench: the real services are not up: run `make services`", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    load = os.getloadavg()
    plan = Plan(
        events=args.events,
        repeats=1 if args.quick else args.repeats,
        steps=args.only,
        form=args.form,
        scenario=args.scenario,
        batch_too=args.form == "event" and {"clean", "chain"} <= set(args.only),
        verified=args.verify,
        extent=QUICK if args.quick else FULL,
    )
    about = {
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", "bench", *arguments]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": [round(average, 2) for average in load],
        "form": plan.form,
        "scenario": plan.scenario,
        "events": plan.events,
        "repeats": plan.repeats,
        "settings": {name: value for name, value in os.environ.items() if name.startswith(PREFIX)},
    }
    try:
        with exclusive_bench(services):
            figures = results(Bench(services, plan, lambda line: print(line, flush=True)).run())
    except KeyboardInterrupt:
        print("bench: interrupted; its topics and databases are removed", file=sys.stderr)
        return 130
    except ShopstreamError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    write(figures | about, args.out or (LATEST if args.only == STEPS else PART))
    console = Console()
    show(figures, console if console.is_terminal else Console(width=WIDTH))
    return 0


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


def steps(text: str) -> tuple[str, ...]:
    """Read a list of steps, and put it into the order in which they run."""
    wanted = [step for step in text.split(",") if step]
    known = (*STEPS, *SWEEPS)
    for step in wanted:
        if step not in known:
            raise argparse.ArgumentTypeError(f"{step}: unknown, one of {', '.join(known)}")
    return tuple(step for step in known if step in wanted)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument(
        "--events", type=int, default=2_000_000, metavar="N", help="backlog to drain (2000000)"
    )
    options.add_argument(
        "--repeats",
        type=int,
        default=3,
        metavar="N",
        help="runs of each step; speeds are medians (3)",
    )
    options.add_argument("--quick", action="store_true", help="each step once, short sweeps")
    options.add_argument(
        "--only",
        type=steps,
        default=STEPS,
        metavar="STEPS",
        help=f"of {','.join(STEPS)}, and what they need; or sweeps: {','.join(SWEEPS)}",
    )
    options.add_argument(
        "--form", choices=("event", "batch"), default="event", help="records of clean.web (event)"
    )
    options.add_argument(
        "--scenario",
        choices=SCENARIOS,
        default=HEALTHY,
        metavar="NAME",
        help=f"what is sent ({HEALTHY})",
    )
    options.add_argument(
        "--verify",
        action="store_true",
        help="also drain up to 200,000 events with an answer key, and compare all",
    )
    options.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: bench/results/latest.json, or, for a part, .shopstream/bench",
    )
    return options


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
