"""`shopstream demo`: the whole way once, from a generator or a file to proved numbers."""

from __future__ import annotations

import argparse
import signal
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from shopstream.demo.plan import DemoOptions
from shopstream.demo.play import play
from shopstream.supervise.child import die_with_parent

INTERRUPTED = 130


class InterruptedDemo(Exception):
    """Ctrl-C, or a request to end."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--rate", type=float, default=1000, help="events per second (1000)")
    parser.add_argument("--duration", type=float, default=30, help="seconds (30)")
    parser.add_argument(
        "--scenario", default="faults", help="see `python -m generators scenarios` (faults)"
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed, same shoppers (1)")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="play a shop's invoices (UCI Online Retail layout) instead",
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=0,
        help="with --input: event seconds per second; 0, the default, is as fast as possible",
    )
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="use the embedded services even where `make services` are up",
    )
    parser.add_argument(
        "--history",
        type=days,
        default=0,
        metavar="DAYS",
        help="fill hours and days of so many days before with synthetic numbers, such as 30d",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the checks as JUnit XML")
    parser.add_argument(
        "--end-with-parent",
        action="store_true",
        help="end when the process that started it is gone, as `make` is when it is killed",
    )
    parser.set_defaults(run=run)


def days(text: str) -> int:
    """Read `30d` or `30`.

    Errors: ValueError, which the parser shows.
    """
    number = int(text.removesuffix("d"))
    if number < 0:
        raise ValueError(text)
    return number


def run(args: argparse.Namespace) -> int:
    """Run the demo; whatever it started has ended when this returns."""
    # SIGHUP comes when the terminal is closed
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    if args.end_with_parent:
        die_with_parent(signal.SIGTERM)
    options = DemoOptions(
        rate=args.rate,
        duration_seconds=args.duration,
        scenario=args.scenario,
        seed=args.seed,
        input=args.input,
        speed=args.speed,
        embedded=args.embedded,
        history_days=args.history,
        junit=args.junit,
    )
    try:
        with ExitStack() as stack:
            return play(options, stack)
    except InterruptedDemo:
        print("stopped; everything that was started has ended")
        return INTERRUPTED


def interrupt(number: int, frame: FrameType | None) -> None:
    """End the demo in order; further signals are ignored meanwhile."""
    signal.signal(number, signal.SIG_IGN)
    raise InterruptedDemo
