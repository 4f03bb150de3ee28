"""What an alert rule is, as data. `rendering.py` makes Grafana's YAML of it, `prometheus.py` a
Prometheus rule.

Texts may hold the value as `{percent}`, `{number}` or `{duration}`, and labels as `{label.NAME}`;
each renderer puts its own template there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from grafana.thresholds import Threshold

MINUTE = timedelta(minutes=1)


class Severity(StrEnum):
    """Critical wakes someone at night, a warning waits until morning."""

    CRITICAL = "critical"
    WARNING = "warning"


class Team(StrEnum):
    SHOP = "shop"
    DATA = "data"
    PLATFORM = "platform"


class NoData(StrEnum):
    """Grafana's states for a query without a number."""

    ALERTING = "Alerting"
    OK = "OK"


class OnError(StrEnum):
    """Grafana's states for a query that failed."""

    ERROR = "Error"
    KEEP_LAST = "KeepLast"


@dataclass(frozen=True)
class Sql:
    """Shape: a row a series: `time`, texts that become labels, and one number; always at least one
    row.
    """

    text: str


@dataclass(frozen=True)
class Prom:
    """An expression for the value now; always at least one series."""

    expr: str


@dataclass(frozen=True)
class Place:
    """The panel that shows what the alert is about: the board's uid and the panel's title as a
    slug.
    """

    board: str
    panel: str


@dataclass(frozen=True)
class Rule:
    """An alert: what is asked, from where on it is trouble, for how long, and what to tell whom.

    `also` is the PromQL of a rule that asks SQL here, where Prometheus can watch the same.
    """

    slug: str
    title: str
    query: Sql | Prom
    threshold: Threshold
    place: Place
    severity: Severity
    summary: str
    description: str
    hold: timedelta = 5 * MINUTE
    no_data: NoData = NoData.OK
    on_error: OnError = OnError.KEEP_LAST
    also: Prom | None = None
    whole: bool = False  # the number is a count

    @property
    def limit(self) -> float:
        """Above (or below) what the rule fires. Panels are red from `act` on, and Grafana 11.6 has
        no "at least".
        """
        return self.threshold.act - 0.5 if self.whole else self.threshold.act

    @property
    def uid(self) -> str:
        """For ever: Grafana never forgets a rule that its file no longer names."""
        return f"shopstream-{self.slug}"

    @property
    def promql(self) -> Prom | None:
        return self.query if isinstance(self.query, Prom) else self.also


@dataclass(frozen=True)
class Group:
    """Rules of one concern, asked together."""

    name: str
    team: Team
    rules: tuple[Rule, ...]
    interval: timedelta = MINUTE
