"""`shopstream up`: all flows and the roll-up job as supervised processes."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console

from flows.domain.errors import ConfigError, PermanentError
from flows.runtime.paths import WORK
from flows.runtime.settings import settings_or_exit
from shopstream.kafka.lag import Lags
from shopstream.supervise.annotator import Annotator
from shopstream.supervise.child import ROLLUP
from shopstream.supervise.status import PlainStatus, TableStatus, lag_or_none
from shopstream.supervise.supervisor import Supervisor

REFRESH_SECONDS = 1.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
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
    """Supervise until a signal comes, or until no process is left that could run."""
    settings = settings_or_exit()
    if args.processes < 1:
        raise ConfigError("--processes must be 1 or more")
    stop = StopRequest()
    console = Console()
    with ExitStack() as stack:
        lags = stack.enter_context(Lags(settings))
        annotator = stack.enter_context(Annotator(settings.database_url))
        flows = stack.enter_context(
            Supervisor({}, args.logs, args.processes, (ROLLUP,), annotator.put)
        )
        print(f"logs in {args.logs}", flush=True)
        with TableStatus(console) if console.is_terminal else PlainStatus() as status:
            while not stop.requested and len(flows.hopeless) < len(flows.children):
                flows.tend()
                status.show(flows, lag_or_none(lags))
                time.sleep(REFRESH_SECONDS)
        print("stopping: each flow drains and commits", flush=True)
    for child in flows.hopeless:
        print(f"{child.name}: {child.last_words}", file=sys.stderr)
    return PermanentError.exit_code if flows.hopeless else 0


class StopRequest:
    """Remember whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self.requested = False
        # SIGHUP comes when the terminal is closed
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
