"""Run one flow as a process: signals, the commit after a drain, and the exit code of a failure.

`python -m bytewax.run flows.<name>` and `python -m flows.runtime.launch <name>` differ only in the
epoch: 10 s under the first, `SHOPSTREAM_EPOCH_SECONDS` under the second. Outputs flush as fast in
both.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Protocol

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.kafka_consumer import Subscription
from flows.connectors.kafka_sink import DEAD_LETTER_BYTES, Destination, KafkaSink
from flows.connectors.kafka_source import KafkaSource, State
from flows.connectors.lanes import Lanes
from flows.connectors.places import Places, WithPlaces
from flows.connectors.raw_topic import RawTopic
from flows.connectors.records import Pulled, Records
from flows.connectors.timescale import TimescaleSink
from flows.connectors.upserter import Database
from flows.domain.batch import Origin
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import ShopstreamError
from flows.domain.families import FAMILIES
from flows.domain.family import Family
from flows.domain.losses import Loss
from flows.domain.tables import CHECKPOINTS, LOSSES, AnyRows, Table
from flows.registry import BY_NAME, CLEANING, NAMES, Flow
from flows.runtime.settings import Settings, settings_or_exit
from flows.runtime.telemetry.telemetry import Telemetry

# What a record waits for others at each flow, where little comes.
LEAST_POLL_SECONDS = 0.005


class TableState(Protocol):
    """The state of a flow that writes tables."""

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Map each partition to where it stands once all that was read is in the outputs."""

    def losses(self) -> list[Loss]:
        """Give the losses since the last call."""


class Process:
    """The process around a flow: at a signal it lets the flow drain, then commits."""

    def __init__(self, flow: Flow, settings: Settings) -> None:
        self.flow = flow
        self.settings = settings
        self.telemetry = Telemetry(flow.name, settings)
        self._sources: list[KafkaSource] = []
        self._sinks: list[KafkaSink | TimescaleSink] = []
        self._tables: TimescaleSink | None = None
        self._stop = False

    @classmethod
    def prepare(cls, flow: Flow) -> Process:
        """Read settings, start telemetry and take signals: the first thing that a flow does."""
        process = cls(flow, settings_or_exit())
        # What a batch allocates dies with it; looking for cycles among 10,000 messages costs more
        # than sending them.
        sys.setswitchinterval(0.0005)
        gc.freeze()
        gc.set_threshold(200_000, 20, 100)
        # Bytewax passes a failure through Rust, whose trace says nothing about ours.
        os.environ["RUST_BACKTRACE"] = "0"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, process._ask)
        sys.excepthook = process._report
        process.telemetry.serve()
        return process

    @property
    def origin(self) -> Origin:
        """Who speaks, and of which topic: what tallies and dead letters are signed with."""
        return Origin(self.flow.name, self.settings.topic(self.flow.reads))

    def source(self, state: State) -> KafkaSource:
        """Make the source of the flow's topic; the sink of its tables must be made before."""
        settings = self.settings
        is_raw = self.flow.name in CLEANING
        subscription = Subscription(
            settings.kafka,
            settings.topic(self.flow.reads),
            settings.group(self.flow.name),
            settings.ordinal,
            settings.count,
            settings.batch_records,
            settings.poll_seconds * self.flow.poll_slowdown,
            LEAST_POLL_SECONDS * self.flow.poll_slowdown,
            settings.startup_seconds,
            goes_on=settings.lost_records == "continue",
            is_raw=is_raw,
            broker_time=is_raw and settings.producer_timestamps == "refuse",
        )
        source = KafkaSource(
            subscription, state, self.stopping, self.telemetry.source, self._tables
        )
        self._sources.append(source)
        return source

    def topic_sink(
        self,
        topic: str,
        pulled: Pulled[Records] | None = None,
        max_bytes: int = Destination.max_bytes,
    ) -> KafkaSink:
        """Make the sink of a topic, named by its setting."""
        destination = Destination(
            self.settings.kafka,
            self.settings.topic(topic),
            max_bytes,
            startup_seconds=self.settings.startup_seconds,
            edge=self.settings.kafka_edge,
        )
        sink = KafkaSink(destination, self.telemetry.sinks, pulled)
        self._sinks.append(sink)
        return sink

    def dead_letter_sink(self) -> KafkaSink:
        """Make the sink of dead letters, whose records may be larger than others."""
        return self.topic_sink("topic_dead_letters", max_bytes=DEAD_LETTER_BYTES)

    def table_sink(
        self, *tables: Table, state: TableState, pulled: Pulled[Iterable[AnyRows]] | None = None
    ) -> TimescaleSink:
        """Make the sink of tables, which also hold where the flow stands."""
        settings = self.settings
        places = Places(self.flow.name, settings.topic(self.flow.reads))
        with_places = WithPlaces(places, state.checkpoints, pulled, state.losses)
        database = Database(settings.database_url, settings.startup_seconds, places=places)
        sink = TimescaleSink(
            database,
            (*tables, LOSSES, CHECKPOINTS),
            self.stopping,
            self.telemetry.sinks,
            with_places,
        )
        self._sinks.append(sink)
        self._tables = sink
        return sink

    def raw_topic(self, family: Family) -> RawTopic:
        """Ask about the raw topic of a family."""
        settings = self.settings
        return RawTopic(
            settings.kafka, settings.topic(f"topic_raw_{family.name}"), settings.startup_seconds
        )

    def lanes(self) -> Lanes:
        """Look up the lanes of topics in the tables."""
        settings = self.settings
        raw = {settings.topic(f"topic_raw_{family.name}") for family in FAMILIES}

        def current(topic: str) -> int:
            return RawTopic(settings.kafka, topic, settings.startup_seconds).incarnation()

        return Lanes(settings.database_url, raw, current)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def stopping(self) -> bool:
        """Tell whether a signal has asked for the end."""
        return self._stop

    def begin(self) -> None:
        """Connect the sinks and the source that were made, and arrange for the last commit.

        Errors: PermanentError, TransientError.
        """
        # After a drain Bytewax asks for no further batch, so the last flush and the commit of the
        # last epoch are left to us, after Bytewax has ended.
        writers = [sink.open() for sink in self._sinks]
        readers = [source.open() for source in self._sources]

        def finish() -> None:
            if not all(reader.drained for reader in readers):
                return
            try:
                for writer in writers:
                    writer.flush()
                for reader in readers:
                    reader.finish()
            except Exception as error:
                self.telemetry.process.last_commit_failed(error)
                os._exit(error.exit_code if isinstance(error, ShopstreamError) else 1)
            self.telemetry.process.stopped()

        atexit.register(finish)

    def _report(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # The one place where a failure is logged: one that was foreseen in a line with its exit
        # code, a bug with its trace.
        if isinstance(error, KeyboardInterrupt):
            os._exit(130)
        known = cause_of(error)
        if known is None:
            self.telemetry.process.broken(error)
        else:
            self.telemetry.process.failed(known)
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(1 if known is None else known.exit_code)


def cause_of(error: BaseException) -> ShopstreamError | None:
    """Find our error below those that Bytewax wraps it in; None for a bug."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ShopstreamError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def main() -> None:
    """Run a flow by its name."""
    from bytewax.run import cli_main

    if len(sys.argv) != 2 or sys.argv[1] not in BY_NAME:
        raise SystemExit(f"usage: python -m flows.runtime.launch {{{','.join(NAMES)}}}")
    flow = BY_NAME[sys.argv[1]]
    dataflow = importlib.import_module(flow.module).flow(*flow.arguments)
    epoch = timedelta(seconds=settings_or_exit().epoch_seconds)
    # Bytewax has no annotation there
    cli_main(dataflow, epoch_interval=epoch)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
