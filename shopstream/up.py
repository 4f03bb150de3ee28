"""`shopstream up`: all flows and the roll-up job as supervised processes, with a line each."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flows.domain.errors import PermanentError, ShopstreamError
from flows.runtime.paths import WORK
from flows.runtime.settings import settings_or_exit
from shopstream.annotate import Annotator
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.supervisor import ROLLUP, Supervisor

REFRESH_SECONDS = 1.0
PLAIN_SECONDS = 10.0


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes of clean and of metrics (1)",
    )
    parser.add_argument(
        "--logs", type=Path, default=WORK / "logs", metavar="DIR", help="folder of the flows' logs"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    if args.processes < 1:
        print("--processes must be 1 or more", file=sys.stderr)
        return 2
    asked = Asked()
    console = Console()
    with ExitStack() as stack:
        lags = stack.enter_context(Lags(settings))
        annotator = stack.enter_context(Annotator(settings.database_url))
        flows = stack.enter_context(
            Supervisor({}, args.logs, args.processes, (ROLLUP,), annotator.tell)
        )
        print(f"logs in {args.logs}")
        view = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if view:
            view.start()
        told: dict[str, str] = {}
        last = 0.0
        try:
            while not asked.to_stop and len(flows.hopeless) < len(flows.children):
                flows.tend()
                found = behind(lags)
                if view:
                    view.update(table(flows, found), refresh=True)
                else:
                    changed = {c.name: c.state for c in flows.children} != told
                    if changed or time.monotonic() - last > PLAIN_SECONDS:
                        told, last = {c.name: c.state for c in flows.children}, time.monotonic()
                        for line in lines(flows, found):
                            print(line, flush=True)
                time.sleep(REFRESH_SECONDS)
        finally:
            if view:
                view.stop()
        print("stopping: each flow drains and commits", flush=True)
    for child in flows.hopeless:
        print(f"{child.name}: {child.last_words}", file=sys.stderr)
    return PermanentError.exit_code if flows.hopeless else 0


class Asked:
    """Whether someone asked us to stop."""

    def __init__(self) -> None:
        self.to_stop = False
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
        ):  # the last one: the terminal was closed
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.to_stop = True


def behind(lags: Lags) -> dict[str, Lag] | None:
    try:
        return lags.all()
    except ShopstreamError:
        return None


def lines(flows: Supervisor, found: dict[str, Lag] | None) -> list[str]:
    return [
        f"{c.name:<12} {c.state}, telemetry at {c.telemetry or 'no port'}, {c.restarts} restarts,"
        f" lag {lag_text(c.name, found)}" + (f": {c.last_words}" if c.exit_code else "")
        for c in flows.children
    ]


def lag_text(name: str, found: dict[str, Lag] | None) -> str:
    flow = name.split("/")[0]
    if found is None:
        return "unknown"
    return f"{found[flow].records:,}" if flow in found else "-"


def table(flows: Supervisor, found: dict[str, Lag] | None) -> Table:
    made = Table("flow", "state", "telemetry", "restarts", "lag", "last words", box=None)
    for c in flows.children:
        words = c.last_words if c.exit_code else ""
        made.add_row(c.name, c.state, c.telemetry, str(c.restarts), lag_text(c.name, found), words)
    return made
