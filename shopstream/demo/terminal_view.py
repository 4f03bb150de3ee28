"""What a person sees while a demo runs: rates, latency, lag, money, products."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.domain.codes import Outcome
from shopstream.demo.latency_probe import Percentiles
from shopstream.demo.stored_numbers import StoredNumbers
from shopstream.kafka.lag import Lag

PLAIN_SECONDS = 3.0


@dataclass(frozen=True)
class View:
    """One look at the whole; every number of it is read back from the tables."""

    title: str
    seconds: float
    sent: int
    numbers: StoredNumbers
    rates: dict[str, float]
    latency: Percentiles | None
    lag: dict[str, Lag]

    @property
    def lag_records(self) -> int:
        """Records that some flow has not committed yet."""
        return sum(lag.records for lag in self.lag.values())

    def line(self) -> str:
        """Write the look as one plain line."""
        outcomes = ", ".join(f"{n} {o}" for o, n in sorted(self.numbers.outcomes.items()))
        latency = self.latency
        milliseconds = (
            "-" if latency is None else f"p50 {latency.p50:.0f} ms p99 {latency.p99:.0f} ms"
        )
        sales = ", ".join(f"{s.orders} orders {s.net}" for s in self.numbers.sales[:3])
        return (
            f"{self.seconds:5.1f} s  sent {self.sent}  {outcomes or 'no outcome yet'}"
            f"  latency {milliseconds}  lag {self.lag_records}  net {sales or 'no order yet'}"
        )

    def render(self) -> RenderableType:
        """Draw the look as panels."""
        panels = [
            Panel(self._outcomes(), title="events"),
            Panel(self._latency(), title="latency"),
            Panel(self._lag(), title="lag"),
            Panel(self._sales(), title="money"),
            Panel(self._products(), title="products"),
        ]
        heading = f"{self.title}   {self.seconds:.0f} s   sent {self.sent:,}"
        return Group(Text(heading, style="bold"), Columns(panels))

    def _outcomes(self) -> Table:
        table = Table("outcome", "records", "per second", box=None)
        for outcome in Outcome:
            records = self.numbers.outcomes.get(outcome, 0)
            table.add_row(outcome, f"{records:,}", f"{self.rates.get(outcome, 0.0):,.0f}")
        return table

    def _latency(self) -> Text:
        if self.latency is None:
            return Text("no row visible yet")
        return Text(
            f"p50 {self.latency.p50:.0f} ms\np99 {self.latency.p99:.0f} ms\n(last 5 s, due to"
            " visible)"
        )

    def _lag(self) -> Table:
        table = Table("flow", "lag", box=None)
        for flow, lag in self.lag.items():
            table.add_row(flow, f"{lag.records:,}")
        return table

    def _sales(self) -> Table:
        table = Table("orders", "net sales so far", box=None)
        for sales in self.numbers.sales:
            table.add_row(f"{sales.orders:,}", sales.net)
        return table

    def _products(self) -> Table:
        table = Table("top product", "units", "gross", box=None)
        for product in self.numbers.products:
            table.add_row(product.product_id, f"{product.units:,}", product.gross)
        return table


class LiveDisplay:
    """Panels on a terminal, drawn anew in their place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, view: View, all_sent: bool) -> None:
        """Draw the view."""
        self._live.update(view.render(), refresh=True)


class PlainDisplay:
    """Lines where there is no terminal: one every few seconds, and each one of the end."""

    def __init__(self) -> None:
        self._printed_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, view: View, all_sent: bool) -> None:
        """Print the view when it is due."""
        now = time.monotonic()
        if all_sent or now - self._printed_at > PLAIN_SECONDS:
            self._printed_at = now
            print(view.line(), flush=True)
