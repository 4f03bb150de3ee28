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
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Protocol

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.kafka_consumer import Subscription
from flows.connectors.kafka_sink import Destination
from flows.connectors.kafka_source import KafkaSource
from flows.domain.errors import ShopstreamError
from flows.registry import BY_NAME, NAMES
from flows.runtime.settings import Settings, settings_or_exit
from flows.runtime.telemetry.telemetry import Telemetry


class Sink(Protocol):
    """A sink of ours, which connects before the flow runs."""

    def open(self) -> Flushes:
        """Connect; what is wrong shows now."""


class Flushes(Protocol):
    """What writes, and can be told to write all that it holds."""

    def flush(self) -> None:
        """Return when all that was written is safe."""


class Process:
    """The process around a flow: at a signal it lets the flow drain, then commits."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._stop = False

    @classmethod
    def prepare(cls, flow: str) -> tuple[Settings, Process]:
        """Set up settings, telemetry and signal handlers: the first thing that a flow does."""
        settings = settings_or_exit()
        process = cls(Telemetry(flow, settings))
        # What a batch allocates dies with it; looking for cycles among 10,000 messages costs more
        # than sending them.
        gc.freeze()
        gc.set_threshold(200_000, 20, 100)
        # Bytewax passes a failure through Rust, whose trace says nothing about ours.
        os.environ["RUST_BACKTRACE"] = "0"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, process._ask)
        sys.excepthook = process._report
        process.telemetry.serve()
        return settings, process

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def stopping(self) -> bool:
        """Tell whether a signal has asked for the end."""
        return self._stop

    def begin(self, source: KafkaSource, *sinks: Sink) -> None:
        """Connect everything, and arrange for the last flush and commit.

        Errors: PermanentError, TransientError.
        """
        # After a drain Bytewax asks for no further batch, so the commit of the last epoch is left
        # to us, after Bytewax has ended.
        writers = [sink.open() for sink in sinks]
        reader = source.open()

        def finish() -> None:
            if not reader.drained:
                return
            try:
                for writer in writers:
                    writer.flush()
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


def subscription(settings: Settings, topic: str, flow: str) -> Subscription:
    """Give what this process reads of a topic."""
    return Subscription(
        settings.bootstrap,
        topic,
        settings.group(flow),
        settings.ordinal,
        settings.count,
        settings.batch_records,
        settings.poll_seconds * BY_NAME[flow].poll_slowdown,
        settings.startup_seconds,
    )


def destination(
    settings: Settings, topic: str, max_bytes: int = Destination.max_bytes
) -> Destination:
    """Give where this process writes."""
    return Destination(
        settings.bootstrap, topic, max_bytes, startup_seconds=settings.startup_seconds
    )


def cause_of(error: BaseException) -> ShopstreamError | None:
    """Find our error below those that Bytewax wraps it in; None for a bug."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ShopstreamError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def main() -> None:
    """Run the flow that the command line names."""
    from bytewax.run import cli_main

    if len(sys.argv) != 2 or sys.argv[1] not in BY_NAME:
        raise SystemExit(f"usage: python -m flows.runtime.launch {{{','.join(NAMES)}}}")
    flow = importlib.import_module(BY_NAME[sys.argv[1]].module).flow()
    epoch = timedelta(seconds=settings_or_exit().epoch_seconds)
    cli_main(flow, epoch_interval=epoch)  # type: ignore[no-untyped-call]  # it has no annotations


if __name__ == "__main__":
    main()
