"""Numbers that are read when somebody scrapes, from the places and the state of the flow: between
scrapes they cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.domain.budget import ALL
from flows.runtime.telemetry import names
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.health import Verdict
from flows.runtime.telemetry.names import MetricFamily


@dataclass(frozen=True)
class StateView:
    """What a flow's state lets others see. Asked from the thread that serves: each call gives a
    copy, made in one step.

    Units: watermarks in Unix ms; the budget's share by partition, budget.ALL for all together.
    """

    watermarks: Callable[[], Mapping[int, int]] = dict
    sizes: Callable[[], Mapping[str, int]] = dict
    budget: Callable[[], Mapping[int, float]] = dict


class StateCollector(Collector):
    """Lag, watermark delay, size of the state, budget and health as they are now."""

    def __init__(self, flow: str, backlog: Backlog, verdict: Callable[[], Verdict]) -> None:
        self._flow = flow
        self._backlog = backlog
        self._verdict = verdict
        self.state = StateView()

    def collect(self) -> Iterator[Metric]:
        now = time.time_ns() // 1_000_000
        topic, state = self._backlog.topic, self.state
        used: dict[tuple[str, ...], float]
        used = {("all" if p == ALL else str(p),): share for p, share in state.budget().items()}
        found: dict[MetricFamily, Mapping[tuple[str, ...], float]] = {
            names.LAG_RECORDS: {(topic, str(p)): n for p, n in self._backlog.unread().items()},
            names.LAG_SECONDS: {(topic, str(p)): s for p, s in self._backlog.ages(now).items()},
            names.WATERMARK_DELAY: {
                (str(p),): (now - mark) / 1000 for p, mark in state.watermarks().items()
            },
            names.STATE_ENTRIES: {(name,): n for name, n in state.sizes().items()},
            names.BUDGET_RATIO: used,
            names.HEALTHY: {(): int(self._verdict().healthy)},
        }
        for number, values in found.items():
            if self._flow in number.flows:
                yield self._gauge(number, values)

    def _gauge(self, number: MetricFamily, values: Mapping[tuple[str, ...], float]) -> Metric:
        family = GaugeMetricFamily(number.name, number.help, labels=["flow", *number.labels])
        for labels, value in values.items():
            family.add_metric([self._flow, *labels], value)
        return family
