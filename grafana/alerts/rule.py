"""What an alert rule is, as data.

`rendering.py` makes Grafana's YAML of it, `prometheus.py` a Prometheus rule. Texts may hold the
value as `{percent}`, `{number}` or `{duration}`, and labels as `{label.NAME}`; each renderer puts
its own template there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from database.thresholds import LIMITS, Limit
from grafana.queries import Prom, Query, Sql
from grafana.thresholds import Threshold

MINUTE = timedelta(minutes=1)


class Severity(StrEnum):
    """Critical wakes someone at night, a warning waits until morning."""

    CRITICAL = "critical"
    WARNING = "warning"


class Team(StrEnum):
    """Who can do something about it."""

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
class PanelReference:
    """The panel that shows what an alert is about: uid of its board, and its title."""

    board: str
    title: str


@dataclass(frozen=True)
class Rule:
    """An alert: a query, the limit of its value, how long it holds, and what to say.

    Shape: the query returns at least one series, each with one number; texts become labels. An SQL
    query has columns `time`, perhaps one text, and `value`.

    `also` is the PromQL by which Prometheus can watch what this rule reads from SQL.
    """

    slug: str
    title: str
    query: Query
    threshold: Threshold
    panel: PanelReference
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
        """The number above which, or below which, the rule fires.

        A panel is red from `act` on, but Grafana 11.6 has no "at least", so a count is compared
        with `act` less a half.
        """
        return self.threshold.act - 0.5 if self.whole else self.threshold.act

    @property
    def movable(self) -> Limit | None:
        """The limit, where `shopstream thresholds` can move it."""
        return LIMITS.get(self.slug) if isinstance(self.query, Sql) else None

    @property
    def uid(self) -> str:
        """Grafana's name for the rule, which must not change.

        Grafana keeps a rule that its file no longer names.
        """
        return f"shopstream-{self.slug}"

    @property
    def promql(self) -> Prom | None:
        """The query by which Prometheus can watch the same, where it can."""
        return self.query if isinstance(self.query, Prom) else self.also


@dataclass(frozen=True)
class Group:
    """Rules of one concern, evaluated together."""

    name: str
    team: Team
    rules: tuple[Rule, ...]
    interval: timedelta = MINUTE
