"""Run a plan: from pools and schedule to the last acknowledgement and the ledger."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from generators.answer_key.ledger import Recorder, claim, write_manifest
from generators.answer_key.oracle import Terms
from generators.config import Contract, ReplayPlan, Report, RunPlan, Target
from generators.errors import ConfigError
from generators.faults.injector import Injector, Judging
from generators.records import Records
from generators.replay.invoices import Rejected, read_invoices, rejected_name, write_rejected
from generators.replay.replay import invoice_records
from generators.sending.encoding import load_wire, partitions_of
from generators.sending.schedule import EventClock, Schedule
from generators.sending.sender import Behind, Progress, Sender, Tracker
from generators.sending.sinks import FileSink, KafkaSink, NullSink, Sink
from generators.shoppers.lanes import Shoppers, lanes_for
from generators.shoppers.pools import make_pools
from generators.shoppers.sessions import make_walks

OnProgress = Callable[[Progress], None] | None
LEAD = timedelta(
    milliseconds=100
)  # from the start of the clock to the first event: the first stretch is written then
SHORTEST, LONGEST = (
    64,
    8192,
)  # records a stretch; a short one keeps its writing out of the latency of a slow stream

TOLD = 5  # rejected rows printed when there is no ledger to list them


def run(plan: RunPlan, on_progress: OnProgress = None) -> Report:
    """Send synthetic shoppers. Errors: GeneratorError with the exit code."""
    mixture, schedule = plan.mixture(), plan.schedule()
    claim(plan.ledger)
    wire = load_wire(plan.target.topic, plan.target.registry_url)
    pools = make_pools(plan.seed, plan.visitors, plan.products)
    shoppers = Shoppers(plan.seed, pools, make_walks(plan.seed), lanes_for(plan.rate))
    with open_sink(plan.target, tracked=_tracked(plan.ledger, on_progress)) as sink:
        partition = partitions_of(pools.visitor_keys, sink.partitions)
        wall = datetime.now(UTC) + (LEAD if plan.speed else timedelta())
        clock = event_clock(plan, schedule, wall)
        judging = _judging(plan, schedule, clock, wall)
        injector = Injector(plan.seed, mixture.faults, judging, wire, pools.visitor_keys, partition)
        answered = plan.ledger is not None or plan.target.form == "json"
        stretches = _stretches(plan, schedule, clock, shoppers, injector, answered)
        session = _Session(
            sink, wall, plan.speed == 0, plan.ledger, _terms(plan.contract, judging.latest_ms)
        )
        played = session.play(stretches, on_progress)
    report = replace(played, healthy=schedule.events)
    if plan.ledger is not None:
        facts = {
            "kind": "run",
            "seed": plan.seed,
            "scenario": plan.scenario,
            "shape": mixture.shape,
            "faults": mixture.faults,
            "rate": plan.rate,
            "duration_seconds": schedule.seconds,
            "speed": plan.speed,
            "start": _iso(clock.start_ms),
        }
        write_manifest(plan.ledger, facts | session.facts(report, plan.contract))
    return report


def replay(plan: ReplayPlan, on_progress: OnProgress = None) -> Report:
    """Send a real shop's invoices. Errors: GeneratorError with the exit code."""
    if not plan.speed >= 0:
        raise ConfigError("speed must be 0 or more")
    claim(plan.ledger)
    invoices, rejected = read_invoices(plan.source)
    rejected_file = (
        plan.ledger / rejected_name(plan.source) if plan.ledger is not None and rejected else None
    )
    if rejected_file is not None:
        write_rejected(rejected_file, rejected)
    elif rejected:
        _tell_rejected(plan.source, rejected)
    if not invoices:
        listed = f", listed in {rejected_file}" if rejected_file is not None else ""
        raise ConfigError(f"{plan.source}: no row can be read ({len(rejected)} rejected{listed})")
    wire = load_wire(plan.target.topic, plan.target.registry_url)
    with open_sink(plan.target, tracked=_tracked(plan.ledger, on_progress)) as sink:
        wall = datetime.now(UTC) + LEAD
        terms = _terms(plan.contract, int(wall.timestamp() * 1000))
        session = _Session(sink, wall, plan.speed == 0, plan.ledger, terms)
        stretches = invoice_records(invoices, wire, sink.partitions, terms, plan.speed)
        played = session.play(stretches, on_progress)
    report = replace(
        played, healthy=len(invoices), rejected_rows=len(rejected), rejected_file=rejected_file
    )
    if plan.ledger is not None:
        facts = {
            "kind": "replay",
            "seed": None,
            "scenario": None,
            "source": plan.source.name,
            "speed": plan.speed,
            "rate": None,
            "duration_seconds": None,
            "rejected_rows": len(rejected),
            "start": _iso(min(invoice.time_ms for invoice in invoices)),
        }
        write_manifest(plan.ledger, facts | session.facts(report, plan.contract))
    return report


def _tell_rejected(source: Path, rejected: list[Rejected]) -> None:
    """Print the first rows that cannot be read, where no ledger lists them all."""
    print(f"{source}: {len(rejected)} rows could not be read", file=sys.stderr)
    for entry in rejected[:TOLD]:
        print(f"  line {entry.line}: {entry.reason[:200]}", file=sys.stderr)
    if len(rejected) > TOLD:
        print(f"  and {len(rejected) - TOLD} more", file=sys.stderr)


def event_clock(plan: RunPlan, schedule: Schedule, wall: datetime) -> EventClock:
    """Lay event time over the schedule. Errors: ConfigError for a start that ends in the future."""
    pace = plan.speed or 1.0
    whole = timedelta(seconds=schedule.seconds)
    if plan.start is not None:
        start = plan.start if plan.start.tzinfo else plan.start.replace(tzinfo=UTC)
    else:
        start = min(wall, (wall if plan.speed == 0 else wall + whole) - whole * pace)
    end, latest = start + whole * pace, wall if plan.speed == 0 else wall + whole
    if end > latest + plan.contract.future_tolerance:
        raise ConfigError(
            f"start {start.isoformat()}: event time would end at {end.isoformat()}, in the future"
        )
    return EventClock(int(start.timestamp() * 1000), pace)


@contextmanager
def open_sink(target: Target, tracked: bool) -> Iterator[Sink]:
    """Open where records go. Errors: ConfigError, UnreachableError."""
    if target.sink == "kafka":
        if not target.bootstrap:
            raise ConfigError("KAFKA_BOOTSTRAP_SERVERS is not set")
        yield KafkaSink(target.bootstrap, target.topic, reported="all" if tracked else "errors")
    elif target.sink == "file":
        if target.path is None:
            raise ConfigError("the file sink needs a path")
        try:
            file = open(target.path, "wb")  # noqa: SIM115 (closed below; only the opening may be a wrong setting)
        except OSError as error:
            raise ConfigError(f"{target.path}: {error.strerror}") from error
        with file:
            yield FileSink(file, target.form)
    elif target.sink == "stdout":
        yield FileSink(sys.stdout.buffer, target.form)
    elif target.sink == "null":
        yield NullSink()
    else:
        raise ConfigError(f"sink {target.sink}: unknown")


def _tracked(ledger: Path | None, on_progress: OnProgress) -> bool:
    return ledger is not None or on_progress is not None


def _judging(plan: RunPlan, schedule: Schedule, clock: EventClock, wall: datetime) -> Judging:
    event_length_ms = int(schedule.seconds * clock.pace * 1000)
    wall_end = wall if plan.speed == 0 else wall + timedelta(seconds=schedule.seconds)
    return Judging(
        lateness_ms=_ms(plan.contract.lateness),
        tolerance_ms=_ms(plan.contract.future_tolerance),
        patience_ms=max(event_length_ms // 3, 1),
        latest_ms=max(clock.start_ms + event_length_ms, int(wall_end.timestamp() * 1000)),
    )


def _terms(contract: Contract, latest_ms: int) -> Terms:
    return Terms(
        _ms(contract.lateness), _ms(contract.future_tolerance), latest_ms, contract.query_cap
    )


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


def _stretches(
    plan: RunPlan,
    schedule: Schedule,
    clock: EventClock,
    shoppers: Shoppers,
    injector: Injector,
    answered: bool,
) -> Iterator[Records]:
    """Write the stream stretch by stretch; its length changes no byte
    (test_stretches_change_no_byte).
    """
    size = LONGEST if plan.speed == 0 else int(min(max(plan.rate / 50, SHORTEST), LONGEST))
    for first in range(0, schedule.events, size):
        due = schedule.due_us(first, min(first + size, schedule.events))
        yield injector.compose(
            shoppers.emit(due, clock.event_ms(due), schedule.in_flash(due)), answered
        )


class _Session:
    """Play stretches into a sink, with a ledger if one is asked for."""

    def __init__(
        self, sink: Sink, wall: datetime, hurry: bool, ledger: Path | None, terms: Terms
    ) -> None:
        self._sink, self._hurry, self._ledger, self._terms = sink, hurry, ledger, terms
        self._start_us = int(wall.timestamp() * 1_000_000)
        self._recorder = Recorder() if ledger is not None else None

    def play(self, stretches: Iterable[Records], on_progress: OnProgress) -> Report:
        """Send everything and, with a ledger, write its events and rows."""
        tracker = Tracker(self._sink.partitions) if _tracked(self._ledger, on_progress) else None
        on_sent = None if self._recorder is None else self._recorder.sent
        sender = Sender(self._sink, self._start_us, self._hurry, tracker, on_progress, on_sent)
        began = time.monotonic()
        behind = sender.play(stretches)
        seconds = time.monotonic() - began
        offsets = tracker.offsets_in_order() if tracker is not None else np.zeros(0, dtype=np.int64)
        counts: Counter[str] = Counter()
        if self._recorder is not None and self._ledger is not None:
            counts = self._recorder.write(self._ledger, offsets, self._terms)
        bounds = tracker.bounds() if tracker is not None else ({}, {})
        return _report(sender.sent, seconds, behind, counts, bounds)

    def facts(self, report: Report, contract: Contract) -> dict[str, Any]:
        """Give what the manifest says of any run."""
        return {
            "events": report.sent,
            "healthy_events": report.healthy,
            "counts": dict(report.counts),
            "seconds": round(report.seconds, 3),
            "behind_max_ms": report.behind_max_ms,
            "behind_p99_ms": report.behind_p99_ms,
            "wall_start": datetime.fromtimestamp(self._start_us / 1e6, UTC).isoformat(),
            "first_offsets": dict(report.first_offsets),
            "next_offsets": dict(report.next_offsets),
            "lateness_seconds": contract.lateness.total_seconds(),
            "future_tolerance_seconds": contract.future_tolerance.total_seconds(),
            "query_cap": contract.query_cap,
            "payload_sha256": self._recorder.payload_sha256 if self._recorder is not None else None,
        }


def _report(
    sent: int,
    seconds: float,
    behind: Behind,
    counts: Counter[str],
    bounds: tuple[dict[int, int], dict[int, int]],
) -> Report:
    return Report(sent, 0, seconds, behind.max_ms, behind.p99_ms, counts, bounds[0], bounds[1])
