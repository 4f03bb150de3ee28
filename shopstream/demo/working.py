"""Tell the one who waits what is being done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# whoever sees nothing for longer wonders whether anything still happens
REPEAT_SECONDS = 4.0


@contextmanager
def working(text: str, repeat_seconds: float = REPEAT_SECONDS) -> Iterator[None]:
    """Print what the block does, and every few seconds how long it has been at it."""
    ended = threading.Event()

    def repeat() -> None:
        began = time.monotonic()
        while not ended.wait(repeat_seconds):
            print(f"  {text}: {time.monotonic() - began:.0f} s", flush=True)

    print(f"{text} ...", flush=True)
    thread = threading.Thread(target=repeat, name="working", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
