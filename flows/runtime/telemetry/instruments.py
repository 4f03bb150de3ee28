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
    """A histogram that takes a whole batch of values at once.

    prometheus_client's own takes 1 µs per value.
    """

    def __init__(self, family: MetricFamily, flow: str) -> None:
        self._family, self._flow = family, flow
        self._ends_ms = np.array([round(end * 1000) for end in family.buckets], np.int64)
        self._counts = np.zeros(len(family.buckets), np.int64)
        self._count, self._sum = 0, 0.0
        self._lock = threading.Lock()

    def add_ages(self, now: int, timestamps: np.ndarray) -> None:
        """Add how old each of `timestamps` is at `now`.

        Units: both in ms; a timestamp of a clock that is ahead of ours is 0 old.
        """
        count = len(timestamps)
        if not count:
            return
        # Stamps of a partition ascend, and the stable sort finds that: 29 µs for 10,000, half of
        # the general sort.
        old_first = np.sort(timestamps, kind="stable")
        # Prometheus counts upward: a bucket has every value up to its end, so all timestamps from
        # `now - end` on. With now = 100 and timestamps 20, 60, 95, the end 50 has two of them.
        younger = count - old_first.searchsorted(now - self._ends_ms)
        total = now * count - int(old_first.sum())
        if old_first[-1] > now:
            # negative ages were subtracted from the sum: take them out of it again
            ahead = old_first[old_first.searchsorted(now) :]
            total += int(ahead.sum()) - now * len(ahead)
        with self._lock:
            self._counts += younger
            self._count += count
            self._sum += total / 1000

    def collect(self) -> Iterator[Metric]:
        """Give the histogram as it is now."""
        histogram = HistogramMetricFamily(self._family.name, self._family.help, labels=["flow"])
        with self._lock:
            counts, total = [*self._counts.tolist(), self._count], self._sum
        ends = [*map(str, self._family.buckets), "+Inf"]
        histogram.add_metric([self._flow], list(zip(ends, counts, strict=True)), total)
        yield histogram


class Instruments:
    """Every number of a process by its entry in the list of names.

    State: one time series per combination of labels, for the life of the process.
    """

    def __init__(self, flow: str) -> None:
        # the `_created` series would double the number of series, and start_time says the same
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.flow = flow
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._metrics: dict[MetricFamily, Any] = {}
        self._series: dict[tuple[MetricFamily, tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    def series(self, family: MetricFamily, *labels: str) -> Any:
        """Give the time series of these label values."""
        # looked up in a dict, because `labels()` costs ten times that
        key = family, labels
        if key not in self._series:
            with self._lock:
                self._series[key] = self._metric(family).labels(self.flow, *labels)
        return self._series[key]

    def _metric(self, family: MetricFamily) -> Any:
        if family not in self._metrics:
            kinds: dict[Kind, Any] = {
                Kind.COUNTER: Counter,
                Kind.GAUGE: Gauge,
                Kind.HISTOGRAM: Histogram,
            }
            shape = {"buckets": family.buckets} if family.kind is Kind.HISTOGRAM else {}
            self._metrics[family] = kinds[family.kind](
                family.name, family.help, ("flow", *family.labels), registry=self.registry, **shape
            )
        return self._metrics[family]

    def batch_histogram(self, family: MetricFamily) -> BatchHistogram:
        """Make a histogram of whole batches, and serve it with the others."""
        histogram = BatchHistogram(family, self.flow)
        self.registry.register(histogram)
        return histogram
