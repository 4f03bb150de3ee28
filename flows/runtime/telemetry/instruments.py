"""The numbers of one process, as prometheus_client keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.runtime.telemetry.names import Kind, MetricFamily


class BatchHistogram(Collector):
    """A histogram that takes a whole batch of values at once: prometheus_client's own takes 1 µs a
    value.
    """

    def __init__(self, number: MetricFamily, flow: str) -> None:
        self._number, self._flow = number, flow
        self._ends_ms = np.array([round(end * 1000) for end in number.buckets], np.int64)
        self._counts = np.zeros(len(number.buckets), np.int64)
        self._all, self._sum = 0, 0.0
        self._lock = threading.Lock()

    def add_ages(self, now: int, stamps: np.ndarray) -> None:
        """Add how old each of `stamps` is at `now`. Units: both in ms; a stamp of a clock ahead of
        ours is 0 old.

        Stamps of a partition ascend, and the sort finds that: 29 µs for 10,000, half of the general
        sort.
        """
        count = len(stamps)
        if not count:
            return
        old_first = np.sort(stamps, kind="stable")
        younger = count - old_first.searchsorted(now - self._ends_ms)
        total = now * count - int(old_first.sum())
        if old_first[-1] > now:
            ahead = old_first[old_first.searchsorted(now) :]
            total += int(ahead.sum()) - now * len(ahead)
        with self._lock:
            self._counts += younger
            self._all += count
            self._sum += total / 1000

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._number.name, self._number.help, labels=["flow"])
        with self._lock:
            counts, total = [*self._counts.tolist(), self._all], self._sum
        ends = [*map(str, self._number.buckets), "+Inf"]
        family.add_metric([self._flow], list(zip(ends, counts, strict=True)), total)
        yield family


class Instruments:
    """Every number by its entry in the list. State: a time series a combination of labels, for the
    life of the process.
    """

    def __init__(self, flow: str) -> None:
        # they would double the series and say nothing that start_time does not
        prometheus_client.disable_created_metrics()
        self.flow = flow
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._families: dict[MetricFamily, Any] = {}
        self._series: dict[tuple[MetricFamily, tuple[str, ...]], Any] = {}

    def series(self, number: MetricFamily, *labels: str) -> Any:
        """The time series of these label values; looked up in a dict, because `labels()` costs ten
        times that.
        """
        key = number, labels
        if key not in self._series:
            self._series[key] = self._family(number).labels(self.flow, *labels)
        return self._series[key]

    def _family(self, number: MetricFamily) -> Any:
        if number not in self._families:
            kinds: dict[Kind, Any] = {
                Kind.COUNTER: Counter,
                Kind.GAUGE: Gauge,
                Kind.HISTOGRAM: Histogram,
            }
            shape = {"buckets": number.buckets} if number.kind is Kind.HISTOGRAM else {}
            self._families[number] = kinds[number.kind](
                number.name, number.help, ("flow", *number.labels), registry=self.registry, **shape
            )
        return self._families[number]

    def batch_histogram(self, number: MetricFamily) -> BatchHistogram:
        made = BatchHistogram(number, self.flow)
        self.registry.register(made)
        return made
