"""One demo from begin to end: services, flows, a generator, a view of it, and the proof."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import ExitStack

from rich.console import Console

from flows.runtime.paths import WORK
from flows.runtime.settings import load_settings
from shopstream.demo.latency_probe import LatencyProbe
from shopstream.demo.plan import DemoOptions, plan_of
from shopstream.demo.prepare import fill_history, open_services, prepare
from shopstream.demo.sending import Sending
from shopstream.demo.watch import Running, watch
from shopstream.demo.working import working
from shopstream.supervise.annotator import Annotator
from shopstream.supervise.child import ROLLUP
from shopstream.supervise.supervisor import Supervisor
from shopstream.verify.compare import verify
from shopstream.verify.ledger import Ledger
from shopstream.verify.report import show, write_junit
from shopstream.verify.topics import Followed

READY_SECONDS = 20.0
# half a minute of events must be enough to see a repeat that comes too late
LATENESS = {
    "SHOPSTREAM_ALLOWED_LATENESS_SECONDS": "10",
    "SHOPSTREAM_FUTURE_TOLERANCE_SECONDS": "5",
}


def play(options: DemoOptions, stack: ExitStack) -> int:
    """Run everything once, and prove what came out; gives the exit code.

    Errors: ConfigError, PermanentError, TransientError. What was started ends with
    the stack.
    """
    began = time.time()
    folder = WORK / f"demo-{time.strftime('%H%M%S')}-{secrets.token_hex(2)}"
    ledger = folder / "ledger"
    if options.input is None:
        for name, value in LATENESS.items():
            os.environ.setdefault(name, value)
    plan_of(options, load_settings(), ledger)  # a wrong option ends the demo before it starts

    with working("starting the services"):
        services = stack.enter_context(open_services(options.embedded, folder))
    os.environ.update(services.environment)
    settings = load_settings()
    print(
        f"{'embedded' if services.embedded else 'real'} services: Kafka {services.bootstrap}; logs"
        f" and ledger in {folder}",
        flush=True,
    )
    prepare(settings, services)
    if options.history_days:
        fill_history(settings, options.history_days, options.seed)

    annotator = stack.enter_context(Annotator(settings.database_url))
    with working("starting the flows"):
        flows = stack.enter_context(
            Supervisor(
                services.environment, folder / "logs", jobs=(ROLLUP,), on_restart=annotator.put
            )
        )
        topics = stack.enter_context(Followed(settings))
        topics.follow()
        probe = stack.enter_context(
            LatencyProbe(settings.database_url, settings.topic("topic_raw_web"))
        )
        flows.wait_until_reading(READY_SECONDS)
    sending = stack.enter_context(Sending(plan_of(options, settings, ledger), probe))
    watch(Running(settings, flows, sending, probe), options.title)
    with working("stopping the flows"):
        flows.stop()

    with working("comparing every record and every number with the answer key"):
        report = verify(Ledger(ledger), settings, topics.until_the_end())
    summarize(sending, probe, began)
    if options.junit:
        write_junit(report, options.junit)
    show(report, Console())
    return 1 if report.differences else 0


def summarize(sending: Sending, probe: LatencyProbe, began: float) -> None:
    """Print what a person wants to know besides the proof."""
    report, latency = sending.report, probe.whole()
    if report is not None:
        print(
            f"sent {report.sent} records, at most {report.behind_max_ms:.0f} ms behind their"
            " schedule"
        )
        if report.rejected_rows:
            print(
                f"{report.rejected_rows} rows of the file could not be read: see"
                f" {report.rejected_file}"
            )
    if latency is not None:
        print(
            f"latency from due to visible: p50 {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms over"
            f" {latency.count} events"
        )
    if probe.first_row_at is not None:
        print(f"first gold row after {probe.first_row_at - began:.1f} s")
