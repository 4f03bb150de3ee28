"""The telemetry of one flow process: who observes what, and where it can be read."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog

from flows.runtime import version
from flows.runtime.settings import Settings
from flows.runtime.telemetry import http, logs, names
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.collector import StateCollector, StateView
from flows.runtime.telemetry.connector_observers import KafkaSourceObserver, SinkObserver
from flows.runtime.telemetry.flow_observers import FlowObserver, ProcessObserver
from flows.runtime.telemetry.health import Activity, Health, Verdict
from flows.runtime.telemetry.instruments import Instruments
from flows.runtime.telemetry.watchdog import Ends, Watchdog


class Telemetry:
    """Hand `source`, `sinks`, `flow` and `process` to what they observe; `serve` the numbers.

    Time: Unix time for ages, a monotonic clock for progress.
    """

    def __init__(self, flow: str, settings: Settings) -> None:
        share: dict[str, Any] = (
            {"process": f"{settings.ordinal}/{settings.count}"} if settings.count > 1 else {}
        )
        logs.configure(settings.log_format, settings.log_level, flow=flow, **share)
        log = structlog.get_logger("flows")
        self._settings = settings
        self._health, self._lock = Health(settings.stall_seconds), threading.Lock()
        self._activity, self._backlog, self._instruments = Activity(), Backlog(), Instruments(flow)
        latency = (
            self._instruments.batch_histogram(names.LATENCY)
            if flow in names.LATENCY.flows
            else None
        )
        self.process = ProcessObserver(self._instruments, self._activity, log)
        self.source = KafkaSourceObserver(self._instruments, self._backlog, self._activity, log)
        self.sinks = SinkObserver(self._instruments, latency, self.source, self._activity, log)
        self.flow = FlowObserver(self._instruments, self.sinks, self._activity, log)
        self._collector = StateCollector(flow, self._backlog, self.verdict)
        self._instruments.registry.register(self._collector)

    def show(self, state: StateView) -> None:
        """Let others see this of the flow's state."""
        self._collector.state = state

    def verdict(self) -> Verdict:
        """Give whether the flow makes progress."""
        # The watchdog, a scrape and a health check come from three threads.
        with self._lock:
            if self._backlog.partitions():
                self._health.observe(time.monotonic(), *self._backlog.work())
            return self._health.verdict(time.monotonic(), self._activity.where, self._activity.lost)

    def serve(self) -> None:
        """Serve /metrics and /healthz, where a port is set.

        Errors: TransientError when the port is taken.
        """
        settings = self._settings
        address = (
            (settings.telemetry_host, settings.telemetry_port) if settings.telemetry_port else None
        )
        if address is not None:
            http.serve(address, self._instruments.registry, self.verdict)
            ends = Ends(settings.kafka)
            Watchdog(
                self.verdict,
                self._backlog,
                self._activity,
                self.process,
                lambda: ends.of(self._backlog.topic, self._backlog.partitions()),
            ).start()
        self.process.started(
            version.version(),
            settings.build_commit or version.commit(),
            address and f"{address[0]}:{address[1]}",
        )
