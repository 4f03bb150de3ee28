"""What a person sees while a demo runs: rates, latency, lag, money, products. Every number is read
back from the tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psycopg
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shopstream.demo.latency_probe import Percentiles
from shopstream.kafka.lag import Lag

# currencies without cents, or with more digits, are the exception: ISO 4217's minor units
DIGITS = {
    "JPY": 0,
    "KRW": 0,
    "ISK": 0,
    "CLP": 0,
    "VND": 0,
    "KWD": 3,
    "BHD": 3,
    "TND": 3,
    "JOD": 3,
    "OMR": 3,
}


@dataclass(frozen=True)
class Numbers:
    """What the tables say now."""

    outcomes: dict[str, int]
    money: list[tuple[str, int, int]]
    products: list[tuple[str, str, int, int]]
    rows: int


def read(db: psycopg.Connection, topic: str) -> Numbers:
    outcomes = db.execute(
        "SELECT outcome, sum(records)::bigint FROM quality.outcomes_1m WHERE flow = 'clean' AND"
        " source_topic = %s GROUP BY 1",
        (topic,),
    ).fetchall()
    money = db.execute(
        "SELECT currency, sum(orders)::bigint, sum(net_minor)::bigint FROM gold.orders_1m GROUP BY"
        " 1 ORDER BY 3 DESC, 1 LIMIT 6"
    ).fetchall()
    products = db.execute(
        "SELECT product_id, currency, sum(units)::bigint, sum(gross_minor)::bigint FROM"
        " gold.sales_1m GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 6"
    ).fetchall()
    rows = db.execute("SELECT count(*) FROM gold.traffic_1m_by_partition").fetchone()
    return Numbers(dict(outcomes), money, products, rows[0] if rows else 0)


def amount(minor: int, currency: str) -> str:
    """An amount as people write it."""
    digits = DIGITS.get(currency, 2)
    return f"{minor / 10**digits:,.{digits}f} {currency}"


@dataclass
class Rates:
    """Records a second by outcome, between two looks."""

    _before: dict[str, int] = field(default_factory=dict)
    _at: float = field(default_factory=time.monotonic)
    now: dict[str, float] = field(default_factory=dict)

    def update(self, outcomes: dict[str, int]) -> None:
        at = time.monotonic()
        seconds = max(at - self._at, 1e-3)
        self.now = {k: (n - self._before.get(k, 0)) / seconds for k, n in outcomes.items()}
        self._before, self._at = dict(outcomes), at


@dataclass(frozen=True)
class View:
    """One look at the whole."""

    title: str
    seconds: float
    sent: int
    numbers: Numbers
    rates: dict[str, float]
    latency: Percentiles | None
    lag: dict[str, Lag]

    def line(self) -> str:
        """The look as one plain line."""
        outcomes = (
            ", ".join(f"{n} {o}" for o, n in sorted(self.numbers.outcomes.items()))
            or "no outcome yet"
        )
        latency = (
            "-"
            if self.latency is None
            else f"p50 {self.latency.p50:.0f} ms p99 {self.latency.p99:.0f} ms"
        )
        money = (
            ", ".join(
                f"{orders} orders {amount(net, c)}" for c, orders, net in self.numbers.money[:3]
            )
            or "no order yet"
        )
        behind = sum(lag.records for lag in self.lag.values())
        return (
            f"{self.seconds:5.1f} s  sent {self.sent}  {outcomes}  latency {latency}  lag {behind} "
            f" net {money}"
        )

    def render(self) -> RenderableType:
        outcomes = Table("outcome", "records", "per second", box=None)
        for outcome in ("accepted", "duplicate", "late", "rejected"):
            n, rate = self.numbers.outcomes.get(outcome, 0), self.rates.get(outcome, 0.0)
            outcomes.add_row(outcome, f"{n:,}", f"{rate:,.0f}")
        flows = Table("flow", "lag", box=None)
        for flow, lag in self.lag.items():
            flows.add_row(flow, f"{lag.records:,}")
        money = Table("orders", "net sales so far", box=None)
        for currency, orders, net in self.numbers.money:
            money.add_row(f"{orders:,}", amount(net, currency))
        products = Table("top product", "units", "gross", box=None)
        for product, currency, units, gross in self.numbers.products:
            products.add_row(product, f"{units:,}", amount(gross, currency))
        latency = Text("no row visible yet")
        if self.latency is not None:
            latency = Text(
                f"p50 {self.latency.p50:.0f} ms\np99 {self.latency.p99:.0f} ms\n(last 5 s, due to"
                " visible)"
            )
        panels = [
            Panel(outcomes, title="events"),
            Panel(latency, title="latency"),
            Panel(flows, title="lag"),
            Panel(money, title="money"),
            Panel(products, title="products"),
        ]
        return Group(
            Text(f"{self.title}   {self.seconds:.0f} s   sent {self.sent:,}", style="bold"),
            Columns(panels),
        )
