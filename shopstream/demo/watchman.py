"""End an embedded PostgreSQL when the demo that started it is gone, however it went.

`python -m shopstream.demo.watchman FOLDER` waits for the end of its input: a process that is killed
closes its end of the pipe, too. A line of input before that says that all is in order.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.runtime.paths import ROOT


@contextmanager
def watched(data: Path) -> Iterator[None]:
    """Have somebody watch over a server's data folder."""
    watchman = subprocess.Popen(
        [sys.executable, "-m", "shopstream.demo.watchman", str(data)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            watchman.communicate(b"in order\n")


def main() -> None:
    """Wait, and end what is left."""
    data = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.readline():
        return
    with suppress(OSError, ValueError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)  # at once, without a checkpoint: nobody reads the data again
    shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
