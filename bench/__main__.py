"""`python -m bench`: measure, check, write `bench/results/latest.json` and print a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import session
from bench.fill import HEALTHY
from bench.report import results, show
from bench.runner import STEPS, Bench, Plan
from bench.sandbox import FOLDER
from bench.sweeps import FULL, QUICK, SWEEPS
from flows.runtime.settings import PREFIX
from generators.scenarios import SCENARIOS
from shopstream.demo.dev_services import Services

LATEST = Path(__file__).parent / "results" / "latest.json"
WIDTH = 110  # of the table in a log; a terminal has its own
PART = FOLDER / "part.json"


def main(arguments: Sequence[str]) -> int:
    """Measure, write the results, and give the exit code."""
    args = parser().parse_args(arguments)
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
    described = session.about("bench", arguments) | {
        "form": plan.form,
        "scenario": plan.scenario,
        "events": plan.events,
        "repeats": plan.repeats,
        "settings": {name: value for name, value in os.environ.items() if name.startswith(PREFIX)},
    }

    def work(services: Services) -> None:
        figures = results(Bench(services, plan, lambda line: print(line, flush=True)).run())
        session.write(figures | described, args.out or (LATEST if args.only == STEPS else PART))
        console = Console()
        show(figures, console if console.is_terminal else Console(width=WIDTH))

    return session.run(work)


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
