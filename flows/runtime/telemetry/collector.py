"""Numbers that are computed at a scrape, from the backlog and the state; else they cost nothing."""

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
    """What a flow's state lets others see.

    The calls come from the thread that serves: each must give a copy that is made in one step.

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
        """Give the families that this flow serves."""
        for family, values in self._values().items():
            if self._flow in family.flows:
                yield self._gauge(family, values)

    def _values(self) -> dict[MetricFamily, Mapping[tuple[str, ...], float]]:
        now = time.time_ns() // 1_000_000
        topic, state, logs = self._backlog.topic, self.state, self._backlog.logs()
        return {
            names.LAG_RECORDS: {(topic, str(p)): n for p, n in self._backlog.unread().items()},
            names.LAG_SECONDS: {(topic, str(p)): s for p, s in self._backlog.ages(now).items()},
            names.LOG_START: {(topic, str(p)): start for p, (start, _) in logs.items()},
            names.LOG_END: {(topic, str(p)): end for p, (_, end) in logs.items()},
            names.WATERMARK_DELAY: {
                (str(p),): (now - watermark) / 1000 for p, watermark in state.watermarks().items()
            },
            names.STATE_ENTRIES: {(name,): n for name, n in state.sizes().items()},
            names.BUDGET_RATIO: {
                ("all" if p == ALL else str(p),): share for p, share in state.budget().items()
            },
            names.HEALTHY: {(): int(self._verdict().healthy)},
        }

    def _gauge(self, family: MetricFamily, values: Mapping[tuple[str, ...], float]) -> Metric:
        gauge = GaugeMetricFamily(family.name, family.help, labels=["flow", *family.labels])
        for labels, value in values.items():
            gauge.add_metric([self._flow, *labels], value)
        return gauge
