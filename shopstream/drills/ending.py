"""End what a drill has started, however the drill itself ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ended_in_all_cases(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` after the block, or in a process of its own when this one was killed in it."""
    # The pipe has no other writer (descriptors are not inherited), so it ends with this process.
    reading, writing = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        os.setsid()  # out of reach of Ctrl-C
        os.close(writing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ended_well = os.read(reading, 1) != b""
        try:
            if not ended_well:
                end()
        finally:
            os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        end()
        os.write(writing, b".")
        os.close(writing)
        os.waitpid(watcher, 0)
