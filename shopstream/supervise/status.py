"""What an operator sees of supervised processes: a table on a terminal, else lines."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flows.domain.errors import ShopstreamError
from shopstream.kafka.lag import Lag, Lags
from shopstream.supervise.child import Child
from shopstream.supervise.supervisor import Supervisor

PLAIN_SECONDS = 10.0
LagByFlow = dict[str, Lag]


def lag_or_none(lags: Lags) -> LagByFlow | None:
    """Give the lag of every flow, or None while the broker does not answer."""
    try:
        return lags.all()
    except ShopstreamError:
        return None


class TableStatus:
    """A table that is drawn anew in its place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, flows: Supervisor, lag: LagByFlow | None) -> None:
        """Draw the table."""
        table = Table("flow", "state", "telemetry", "restarts", "lag", "last words", box=None)
        for child in flows.children:
            table.add_row(
                child.name,
                child.state,
                child.telemetry,
                str(child.restarts),
                lag_of(child, lag),
                child.last_words if child.exit_code else "",
            )
        self._live.update(table, refresh=True)


class PlainStatus:
    """A line per process when a state changes, and every ten seconds."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._printed_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, flows: Supervisor, lag: LagByFlow | None) -> None:
        """Print the lines that are due."""
        states = {child.name: child.state for child in flows.children}
        now = time.monotonic()
        if states == self._states and now - self._printed_at <= PLAIN_SECONDS:
            return
        self._states, self._printed_at = states, now
        for child in flows.children:
            words = f": {child.last_words}" if child.exit_code else ""
            print(
                f"{child.name:<12} {child.state}, telemetry at {child.telemetry or 'no port'},"
                f" {child.restarts} restarts, lag {lag_of(child, lag)}{words}",
                flush=True,
            )


def lag_of(child: Child, lag: LagByFlow | None) -> str:
    """Show the lag of the flow that a process belongs to; a job has none."""
    if lag is None:
        return "unknown"
    return f"{lag[child.flow].records:,}" if child.flow in lag else "-"
