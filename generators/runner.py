"""Run a plan: from pools and schedule to the last acknowledgement and the ledger."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from generators.answer_key.ledger import Recorder, claim, write_manifest
from generators.answer_key.oracle import Terms
from generators.config import Contract, ReplayPlan, Report, RunPlan, Target
from generators.errors import ConfigError
from generators.faults.injector import Injector, Routing, TimeLimits
from generators.records import Records
from generators.replay.invoices import (
    Invoice,
    Rejected,
    read_invoices,
    rejected_name,
    write_rejected,
)
from generators.replay.replay import invoice_records
from generators.sending.encoding import load_encoding, partitions_of
from generators.sending.schedule import EventClock, Schedule
from generators.sending.sender import Pacing, Progress, Sender, Tracker
from generators.sending.sinks import FileSink, KafkaSink, NullSink, Sink
from generators.shoppers.lanes import Shoppers, lanes_for
from generators.shoppers.pools import make_pools
from generators.shoppers.sessions import make_session_paths

OnProgress = Callable[[Progress], None] | None

# From the start of the clock to the first event; the first chunk is written in the meantime.
START_DELAY = timedelta(milliseconds=100)
# Records per chunk: a twentieth of a second of the stream, so that the writing of a chunk does not
# delay the events of a slow stream, and not so few that the fixed cost per chunk shows.
MIN_CHUNK_RECORDS, MAX_CHUNK_RECORDS = 64, 8192
CHUNKS_PER_SECOND = 20

LISTED_ROWS = 5  # rejected rows printed when there is no ledger to list them


def run(plan: RunPlan, on_progress: OnProgress = None) -> Report:
    """Send synthetic shoppers.

    Errors: ConfigError, LedgerError, UnreachableError.
    """
    mixture, schedule = plan.mixture(), plan.schedule()
    claim(plan.ledger)
    encoding = load_encoding(plan.target.topic, plan.target.registry_url)
    pools = make_pools(plan.seed, plan.visitors, plan.products)
    shoppers = Shoppers(plan.seed, pools, make_session_paths(plan.seed), lanes_for(plan.rate))
    with open_sink(plan.target, tracked=_tracked(plan.ledger, on_progress)) as sink:
        routing = Routing(pools.visitor_keys, partitions_of(pools.visitor_keys, sink.partitions))
        wall = datetime.now(UTC) + (START_DELAY if plan.speed else timedelta())
        clock = event_clock(plan, schedule, wall)
        limits = _time_limits(plan, schedule, clock, wall)
        composer = _Composer(
            schedule=schedule,
            clock=clock,
            shoppers=shoppers,
            injector=Injector(plan.seed, mixture.faults, limits, encoding, routing),
            answered=plan.ledger is not None or plan.target.form == "json",
        )
        terms = _terms(plan.contract, limits.latest_ms)
        player = _Player(sink, _pacing(wall, plan.speed), plan.ledger, terms)
        sent = player.play(composer.chunks(_chunk_records(plan)), on_progress)
    report = replace(sent, healthy=schedule.events)
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
        write_manifest(plan.ledger, facts | player.facts(report, plan.contract))
    return report


def replay(plan: ReplayPlan, on_progress: OnProgress = None) -> Report:
    """Send a real shop's invoices.

    Errors: ConfigError, LedgerError, UnreachableError.
    """
    if not plan.speed >= 0:
        raise ConfigError("speed must be 0 or more")
    claim(plan.ledger)
    invoices, rejected, rejected_file = _read_source(plan)
    encoding = load_encoding(plan.target.topic, plan.target.registry_url)
    with open_sink(plan.target, tracked=_tracked(plan.ledger, on_progress)) as sink:
        wall = datetime.now(UTC) + START_DELAY
        terms = _terms(plan.contract, int(wall.timestamp() * 1000))
        player = _Player(sink, _pacing(wall, plan.speed), plan.ledger, terms)
        chunks = invoice_records(invoices, encoding, sink.partitions, terms, plan.speed)
        sent = player.play(chunks, on_progress)
    report = replace(
        sent, healthy=len(invoices), rejected_rows=len(rejected), rejected_file=rejected_file
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
        write_manifest(plan.ledger, facts | player.facts(report, plan.contract))
    return report


def _read_source(plan: ReplayPlan) -> tuple[list[Invoice], list[Rejected], Path | None]:
    """Read the invoices, and list the rejected rows in the ledger's folder, else on stderr."""
    invoices, rejected = read_invoices(plan.source)
    rejected_file = (
        plan.ledger / rejected_name(plan.source) if plan.ledger is not None and rejected else None
    )
    if rejected_file is not None:
        write_rejected(rejected_file, rejected)
    elif rejected:
        _print_rejected(plan.source, rejected)
    if not invoices:
        listed = f", listed in {rejected_file}" if rejected_file is not None else ""
        raise ConfigError(f"{plan.source}: no row can be read ({len(rejected)} rejected{listed})")
    return invoices, rejected, rejected_file


def _print_rejected(source: Path, rejected: list[Rejected]) -> None:
    print(f"{source}: {len(rejected)} rows could not be read", file=sys.stderr)
    for entry in rejected[:LISTED_ROWS]:
        print(f"  line {entry.line}: {entry.reason[:200]}", file=sys.stderr)
    if len(rejected) > LISTED_ROWS:
        print(f"  and {len(rejected) - LISTED_ROWS} more", file=sys.stderr)


def event_clock(plan: RunPlan, schedule: Schedule, wall: datetime) -> EventClock:
    """Lay event time over the schedule.

    Errors: ConfigError for a start that ends in the future.
    """
    pace = plan.speed or 1.0
    length = timedelta(seconds=schedule.seconds)
    if plan.start is not None:
        start = plan.start if plan.start.tzinfo else plan.start.replace(tzinfo=UTC)
    else:
        start = min(wall, (wall if plan.speed == 0 else wall + length) - length * pace)
    end, latest = start + length * pace, wall if plan.speed == 0 else wall + length
    if end > latest + plan.contract.future_tolerance:
        raise ConfigError(
            f"start {start.isoformat()}: event time would end at {end.isoformat()}, in the future"
        )
    return EventClock(int(start.timestamp() * 1000), pace)


@contextmanager
def open_sink(target: Target, tracked: bool) -> Iterator[Sink]:
    """Open where records go.

    Errors: ConfigError, UnreachableError.
    """
    if target.sink == "kafka":
        if not target.bootstrap:
            raise ConfigError("KAFKA_BOOTSTRAP_SERVERS is not set")
        client = {"bootstrap.servers": target.bootstrap, **target.security}
        yield KafkaSink(client, target.topic, reported="all" if tracked else "errors")
    elif target.sink == "file":
        if target.path is None:
            raise ConfigError("the file sink needs a path")
        try:
            file = target.path.open("wb")
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


def _pacing(wall: datetime, speed: float) -> Pacing:
    return Pacing(start_us=int(wall.timestamp() * 1_000_000), scheduled=speed > 0)


def _time_limits(
    plan: RunPlan, schedule: Schedule, clock: EventClock, wall: datetime
) -> TimeLimits:
    event_length_ms = int(schedule.seconds * clock.pace * 1000)
    wall_end = wall if plan.speed == 0 else wall + timedelta(seconds=schedule.seconds)
    return TimeLimits(
        lateness_ms=_ms(plan.contract.lateness),
        tolerance_ms=_ms(plan.contract.future_tolerance),
        patience_ms=max(event_length_ms // 3, 1),
        latest_ms=max(clock.start_ms + event_length_ms, int(wall_end.timestamp() * 1000)),
    )


def _terms(contract: Contract, latest_ms: int) -> Terms:
    return Terms(
        lateness_ms=_ms(contract.lateness),
        tolerance_ms=_ms(contract.future_tolerance),
        latest_ms=latest_ms,
        query_cap=contract.query_cap,
    )


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


def _chunk_records(plan: RunPlan) -> int:
    if plan.speed == 0:
        return MAX_CHUNK_RECORDS
    return int(min(max(plan.rate / CHUNKS_PER_SECOND, MIN_CHUNK_RECORDS), MAX_CHUNK_RECORDS))


@dataclass(frozen=True)
class _Composer:
    """Write the stream chunk by chunk; their size changes no byte (test_chunks_change_no_byte)."""

    schedule: Schedule
    clock: EventClock
    shoppers: Shoppers
    injector: Injector
    answered: bool

    def chunks(self, size: int) -> Iterator[Records]:
        for first in range(0, self.schedule.events, size):
            due_us = self.schedule.due_us(first, min(first + size, self.schedule.events))
            healthy = self.shoppers.emit(
                due_us, self.clock.event_ms(due_us), self.schedule.in_flash(due_us)
            )
            yield self.injector.compose(healthy, self.answered)


class _Player:
    """Play chunks into a sink, and record them where a ledger is asked for."""

    def __init__(self, sink: Sink, pacing: Pacing, ledger: Path | None, terms: Terms) -> None:
        self._sink, self._pacing, self._ledger, self._terms = sink, pacing, ledger, terms
        self._recorder = Recorder() if ledger is not None else None

    def play(self, chunks: Iterable[Records], on_progress: OnProgress) -> Report:
        """Send everything and, with a ledger, write its events and rows."""
        tracker = Tracker(self._sink.partitions) if _tracked(self._ledger, on_progress) else None
        on_sent = None if self._recorder is None else self._recorder.record
        sender = Sender(self._sink, self._pacing, tracker, on_progress, on_sent)
        began = time.monotonic()
        lag = sender.play(chunks)
        seconds = time.monotonic() - began
        offsets = tracker.offsets_in_order() if tracker is not None else np.zeros(0, dtype=np.int64)
        counts: Counter[str] = Counter()
        if self._recorder is not None and self._ledger is not None:
            counts = self._recorder.write(self._ledger, offsets, self._terms)
        first_offsets, next_offsets = tracker.bounds() if tracker is not None else ({}, {})
        return Report(
            sent=sender.sent,
            healthy=0,
            seconds=seconds,
            behind_max_ms=lag.max_ms,
            behind_p99_ms=lag.p99_ms,
            counts=counts,
            first_offsets=first_offsets,
            next_offsets=next_offsets,
        )

    def facts(self, report: Report, contract: Contract) -> dict[str, Any]:
        """Give what the manifest says of any run."""
        return {
            "events": report.sent,
            "healthy_events": report.healthy,
            "counts": dict(report.counts),
            "seconds": round(report.seconds, 3),
            "behind_max_ms": report.behind_max_ms,
            "behind_p99_ms": report.behind_p99_ms,
            "wall_start": datetime.fromtimestamp(self._pacing.start_us / 1e6, UTC).isoformat(),
            "first_offsets": dict(report.first_offsets),
            "next_offsets": dict(report.next_offsets),
            "lateness_seconds": contract.lateness.total_seconds(),
            "future_tolerance_seconds": contract.future_tolerance.total_seconds(),
            "query_cap": contract.query_cap,
            "payload_sha256": self._recorder.payload_sha256 if self._recorder is not None else None,
        }
