"""The generator in a process of its own, so that whoever watches does not disturb its schedule."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.queues import Queue
from queue import Empty

from flows.domain.errors import PermanentError, ShopstreamError
from generators.config import ReplayPlan, Report, RunPlan
from generators.runner import replay
from generators.runner import run as generate
from generators.sending.sender import Progress
from shopstream.demo.latency_probe import LatencyProbe
from shopstream.supervise.child import die_with_parent

Message = Progress | Report | ShopstreamError
"""What the generator's process reports; the last two end it."""


def generate_into(plan: RunPlan | ReplayPlan, messages: Queue[Message]) -> None:
    """Be the generator's process: put progress, and at last the report or what went wrong."""
    die_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the demo ends it
    try:
        report = (
            generate(plan, messages.put)
            if isinstance(plan, RunPlan)
            else replay(plan, messages.put)
        )
        messages.put(report)
    except ShopstreamError as error:
        messages.put(error)


class Sending:
    """Run the generator, and pass what is acknowledged to the probe."""

    def __init__(self, plan: RunPlan | ReplayPlan, probe: LatencyProbe) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._probe = probe
        self._messages: Queue[Message] = spawned.Queue()
        self._process = spawned.Process(
            target=generate_into, args=(plan, self._messages), name="generator", daemon=True
        )
        self.sent = 0
        self.report: Report | None = None

    def __enter__(self) -> Sending:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self._messages.close()

    def listen(self) -> bool:
        """Take in what the generator has reported; tells whether all is sent.

        Errors: what stopped the generator, or PermanentError when it ended without a word.
        """
        while self.report is None:
            try:
                message = self._messages.get_nowait()
            except Empty:
                if not self._process.is_alive() and self._messages.empty():
                    raise PermanentError(
                        f"the generator ended with exit code {self._process.exitcode}"
                    ) from None
                return False
            if isinstance(message, ShopstreamError):
                raise message
            self.sent = message.sent
            if isinstance(message, Report):
                self.report = message
            else:
                self._probe.sent(message.partition, message.offset, message.scheduled_at_us)
        return True
