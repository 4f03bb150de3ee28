"""`shopstream demo`: the whole road once, from a generator or a shop's own file to proved numbers."""

from __future__ import annotations

import argparse
import fcntl
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from types import FrameType
from typing import Any

import psycopg
from rich.console import Console
from rich.live import Live

from database.connection import connect
from database.migrate import migrate
from flows.domain.errors import ConfigError, PermanentError, ShopstreamError
from flows.domain.rollups import Grain
from flows.runtime.paths import WORK
from flows.runtime.settings import Settings, load_settings
from generators.config import Contract, ReplayPlan, Report, RunPlan, Target
from generators.runner import replay
from generators.runner import run as generate
from generators.sending.sender import Progress
from generators.shoppers.history import History
from shopstream.annotate import Annotator
from shopstream.backfill.load import load
from shopstream.demo import dev_services as places
from shopstream.demo import reset
from shopstream.demo.dev_services import Services
from shopstream.demo.latency_probe import LatencyProbe
from shopstream.demo.terminal_view import Rates, View, read
from shopstream.kafka import topics
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.supervisor import ROLLUP, Supervisor
from shopstream.verify.clean_offsets import AcceptedOffsets
from shopstream.verify.compare import Ledger, junit, show, verify

LOOK_SECONDS, PLAIN_SECONDS = 1.0, 3.0
READY_SECONDS = 20.0
DRAIN_SECONDS = 60.0
# a demo should not wait long for its past: with 30 days about a million rows, in some ten seconds
HISTORY_RATE = 1.0
# half a minute of events must be enough to see a repeat that came too late
DEMO_LATENESS = {
    "SHOPSTREAM_ALLOWED_LATENESS_SECONDS": "10",
    "SHOPSTREAM_FUTURE_TOLERANCE_SECONDS": "5",
}


class Interrupted(Exception):
    """Ctrl-C, or a request to end."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=1000, help="events a second (1000)")
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
        help="with --input: event seconds a second; 0, the default, is as fast as possible",
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
    parser.set_defaults(run=run)


def days(text: str) -> int:
    """`30d` or `30`. Errors: ValueError, which the parser tells."""
    found = int(text.removesuffix("d"))
    if found < 0:
        raise ValueError(text)
    return found


def run(args: argparse.Namespace) -> int:
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # the last one: the terminal was closed
        signal.signal(number, interrupt)
    try:
        with ExitStack() as stack:
            return play(args, stack)
    except Interrupted:
        print("stopped; everything that was started has ended")
        return 130
    except ShopstreamError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code


def interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows is the orderly end
    raise Interrupted


def play(args: argparse.Namespace, stack: ExitStack) -> int:
    began = time.time()
    folder = WORK / f"demo-{time.strftime('%H%M%S')}-{secrets.token_hex(2)}"
    if args.input is None:
        for name, value in DEMO_LATENESS.items():
            os.environ.setdefault(name, value)
    plan_of = planner(args, folder / "ledger")
    used = stack.enter_context(open_services(args.embedded, folder))
    os.environ.update(used.environment)
    settings = load_settings()
    print(
        f"{'embedded' if used.embedded else 'real'} services: Kafka {used.bootstrap}; logs and"
        f" ledger in {folder}",
        flush=True,
    )
    prepare(settings, used)
    if args.history:
        fill(settings, args.history, args.seed)
    annotator = stack.enter_context(Annotator(settings.database_url))
    flows = stack.enter_context(
        Supervisor(used.environment, folder / "logs", jobs=(ROLLUP,), tell=annotator.tell)
    )
    accepted = stack.enter_context(AcceptedOffsets(settings))
    accepted.follow()
    probe = stack.enter_context(LatencyProbe(settings.database_url, settings.topic_raw_web))
    flows.wait_until_reading(READY_SECONDS)
    sender = stack.enter_context(Sending(plan_of(settings), probe))
    watch(Watched(settings, flows, sender, probe, accepted), title(args))
    flows.stop()
    report = verify(Ledger(folder / "ledger"), settings, accepted.until_the_end())
    summarize(sender, probe, began)
    if args.junit:
        junit(report, args.junit)
    show(report, Console())
    return 1 if report.differences else 0


def title(args: argparse.Namespace) -> str:
    if args.input is not None:
        return f"shopstream demo: {args.input.name}"
    return (
        f"shopstream demo: {args.scenario}, {args.rate:g} events/s for {args.duration:g} s, seed"
        f" {args.seed}"
    )


def planner(args: argparse.Namespace, ledger: Path) -> Callable[[Settings], RunPlan | ReplayPlan]:
    """What to send, checked before anything starts. Errors: ConfigError."""
    if args.input is not None and not args.input.is_file():
        raise ConfigError(f"INPUT {args.input}: no such file")

    def plan(settings: Settings) -> RunPlan | ReplayPlan:
        target = Target(
            bootstrap=settings.bootstrap,
            topic=settings.topic_raw_web,
            registry_url=settings.registry,
        )
        contract = Contract(
            settings.allowed_lateness, settings.future_tolerance, settings.query_cap
        )
        if args.input is not None:
            return ReplayPlan(
                target=target, source=args.input, speed=args.speed, contract=contract, ledger=ledger
            )
        made = RunPlan(
            target=target,
            scenario=args.scenario,
            rate=args.rate,
            duration_seconds=args.duration,
            seed=args.seed,
            contract=contract,
            ledger=ledger,
        )
        made.mixture(), made.schedule()
        return made

    plan(load_settings())
    return plan


@contextmanager
def open_services(embedded: bool, folder: Path) -> Iterator[Services]:
    """Those of `make services` when they are up and no other demo uses them, else embedded ones.

    Errors: ConfigError for services that the user named himself: a demo begins with empty topics
    and tables.
    """
    native = None if embedded else places.native()
    named = None if embedded else places.from_environment()
    if named is not None and (native is None or named.bootstrap != native.bootstrap):
        raise ConfigError(
            "a demo empties the topics and tables that it uses, so it does not run on the Kafka of"
            " KAFKA_BOOTSTRAP_SERVERS; unset it, or use --embedded"
        )
    if native is not None:
        with (places.NATIVE.parent / "demo.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another demo uses the real services: this one uses embedded ones")
            else:
                yield native
                return
    with places.embedded(folder) as started:
        yield started


def prepare(settings: Settings, used: Services) -> None:
    if used.embedded:
        topics.touch(settings)
    else:
        reset.empty(settings)
        topics.ensure(settings, 4)
    migrate(settings.database_url, settings.startup_seconds)


def fill(settings: Settings, days: int, seed: int) -> None:
    """Hours and days only: minutes hold what is proved at the end, and nothing else."""
    past = History.until(datetime.now(UTC), days, HISTORY_RATE, seed)
    done = load(settings, past, (Grain.HOUR, Grain.DAY))
    print(
        f"history: {done.total:,} synthetic rows in hours and days since {past.start:%Y-%m-%d}, in"
        f" {done.seconds:.0f} s; `python -m shopstream history` also makes minutes, `--remove`"
        " takes all away",
        flush=True,
    )


def generate_into(
    plan: RunPlan | ReplayPlan, told: Queue[Progress | Report | ShopstreamError]
) -> None:
    """The generator's process: tell of progress, and last of the report or of what went wrong."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the demo ends it
    try:
        told.put(generate(plan, told.put) if isinstance(plan, RunPlan) else replay(plan, told.put))
    except ShopstreamError as error:
        told.put(error)


class Sending:
    """The generator in a process of its own, so that nobody who watches disturbs its schedule."""

    def __init__(self, plan: RunPlan | ReplayPlan, probe: LatencyProbe) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._probe = probe
        self._told: Queue[Progress | Report | ShopstreamError] = spawned.Queue()
        self._process = spawned.Process(
            target=generate_into, args=(plan, self._told), name="generator", daemon=True
        )
        self.sent = 0
        self.report: Report | None = None

    def __enter__(self) -> Sending:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self._told.close()

    def listen(self) -> bool:
        """Take in what the generator said; true when all is sent. Errors: what stopped it."""
        while self.report is None:
            try:
                told = self._told.get_nowait()
            except Empty:
                if not self._process.is_alive() and self._told.empty():
                    raise PermanentError(
                        f"the generator ended with exit code {self._process.exitcode}"
                    ) from None
                return False
            if isinstance(told, ShopstreamError):
                raise told
            if isinstance(told, Report):
                self.sent, self.report = told.sent, told
            else:
                self.sent = told.sent
                self._probe.sent(told.partition, told.offset, told.scheduled_at_us)
        return True


@dataclass(frozen=True)
class Watched:
    settings: Settings
    flows: Supervisor
    sender: Sending
    probe: LatencyProbe
    accepted: AcceptedOffsets


def watch(what: Watched, heading: str) -> None:
    """Show the run until everything sent has gone through. Errors: PermanentError when a flow
    stopped for good.
    """
    console = Console()
    rates, began, told = Rates(), time.monotonic(), 0.0
    drain_until: float | None = None
    with ExitStack() as stack:
        db = stack.enter_context(connect(what.settings.database_url, 10.0))
        lags = stack.enter_context(Lags(what.settings))
        live = (
            stack.enter_context(Live(console=console, auto_refresh=False))
            if console.is_terminal
            else None
        )
        while True:
            what.flows.tend()
            if what.flows.hopeless:
                child = what.flows.hopeless[0]
                raise PermanentError(
                    f"flow {child.name} stopped: {child.last_words} (log: {child.log})"
                )
            # asked before the lag is looked at: what was sent by then must be gone when the lag is
            # 0
            done = what.sender.listen()
            lag = lags.all()
            view = look(db, what, heading, time.monotonic() - began, rates, lag)
            if live is not None:
                live.update(view.render(), refresh=True)
            elif time.monotonic() - told > PLAIN_SECONDS or done:
                told = time.monotonic()
                print(view.line(), flush=True)
            if done and all(one.records == 0 for one in lag.values()):
                return
            if done:
                drain_until = drain_until or time.monotonic() + DRAIN_SECONDS
                if time.monotonic() > drain_until:
                    raise PermanentError(
                        f"not drained within {DRAIN_SECONDS:.0f} s after the last event:"
                        f" {view.line()}"
                    )
            time.sleep(LOOK_SECONDS)


def look(
    db: psycopg.Connection[Any],
    what: Watched,
    heading: str,
    seconds: float,
    rates: Rates,
    lag: dict[str, Lag],
) -> View:
    numbers = read(db, what.settings.topic_raw_web)
    rates.update(numbers.outcomes)
    return View(heading, seconds, what.sender.sent, numbers, rates.now, what.probe.recent(), lag)


def summarize(sender: Sending, probe: LatencyProbe, began: float) -> None:
    """What a person wants to know besides the proof."""
    report, latency = sender.report, probe.whole()
    if report is not None:
        print(
            f"sent {report.sent} records, at most {report.behind_max_ms:.0f} ms behind their"
            " schedule"
        )
        if report.rejected_rows:
            print(
                f"{report.rejected_rows} rows of the file could not be read: see"
                f" {report.rejected_file}"
            )
    if latency is not None:
        print(
            f"latency from due to visible: p50 {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms over"
            f" {latency.count} events"
        )
    if probe.first_row_at is not None:
        print(f"first gold row after {probe.first_row_at - began:.1f} s")
