"""Watch a demo until everything that was sent has gone through the flows."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
from rich.console import Console

from database.connection import connect
from flows.domain.errors import PermanentError
from flows.runtime.settings import Settings
from shopstream.demo.latency_probe import LatencyProbe
from shopstream.demo.sending import Sending
from shopstream.demo.stored_numbers import Rates, read_numbers
from shopstream.demo.terminal_view import LiveDisplay, PlainDisplay, View
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.supervisor import Supervisor

LOOK_SECONDS = 1.0
DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """What runs during a demo."""

    settings: Settings
    flows: Supervisor
    sending: Sending
    probe: LatencyProbe


class Viewer:
    """Look at a running demo, again and again."""

    def __init__(self, db: psycopg.Connection[Any], running: Running, title: str) -> None:
        self._db, self._running, self._title = db, running, title
        self._began = time.monotonic()
        self._rates = Rates()

    def look(self, lag: dict[str, Lag]) -> View:
        """Read the tables, and put everything together."""
        running = self._running
        numbers = read_numbers(self._db, running.settings.topic("topic_raw_web"))
        self._rates.update(numbers.outcomes)
        return View(
            title=self._title,
            seconds=time.monotonic() - self._began,
            sent=running.sending.sent,
            numbers=numbers,
            rates=self._rates.now,
            latency=running.probe.recent(),
            lag=lag,
        )


def watch(running: Running, title: str) -> None:
    """Show the run until everything that was sent has gone through.

    Errors: PermanentError when a flow stopped for good, or what was sent does not drain.
    """
    console = Console()
    drain_until: float | None = None
    with ExitStack() as stack:
        db = stack.enter_context(connect(running.settings.database_url, 10.0))
        lags = stack.enter_context(Lags(running.settings))
        display: LiveDisplay | PlainDisplay = (
            LiveDisplay(console) if console.is_terminal else PlainDisplay()
        )
        stack.enter_context(display)
        viewer = Viewer(db, running, title)
        while True:
            running.flows.tend()
            raise_if_hopeless(running.flows)
            # Read before the lag: what was sent by now has gone through when the lag is 0. The
            # other way round, records that come between the two would be missed.
            all_sent = running.sending.listen()
            view = viewer.look(lags.all())
            display.show(view, all_sent)
            if all_sent:
                if view.lag_records == 0:
                    return
                drain_until = drain_until or time.monotonic() + DRAIN_SECONDS
                if time.monotonic() > drain_until:
                    raise PermanentError(
                        f"not drained within {DRAIN_SECONDS:.0f} s after the last event:"
                        f" {view.line()}"
                    )
            time.sleep(LOOK_SECONDS)


def raise_if_hopeless(flows: Supervisor) -> None:
    """Raise PermanentError for a process that a restart would not help."""
    if flows.hopeless:
        child = flows.hopeless[0]
        raise PermanentError(f"flow {child.name} stopped: {child.last_words} (log: {child.log})")
