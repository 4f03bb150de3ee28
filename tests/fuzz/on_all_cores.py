"""Many logs on several processes, whose memory must stay as it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.check import Wrong, check

# the first logs of a process fill its caches and heaps
WARM_LOGS = 10
GROWTH_MIB = 48


def run(seed: int, logs: int, processes: int) -> Iterator[Counter[str]]:
    """Check the logs of `logs` seeds; gives the outcomes of each.

    Errors: Wrong for a difference, and for a process whose memory grows.
    """
    memory: dict[int, list[float]] = {}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(_checked, s) for s in range(seed, seed + logs)]):
                counts, pid, mib = done.result()
                known = memory.setdefault(pid, [])
                known.append(mib)
                if len(known) > WARM_LOGS and mib > known[WARM_LOGS - 1] + GROWTH_MIB:
                    raise Wrong(f"memory grew from {known[WARM_LOGS - 1]:.0f} to {mib:.0f} MiB")
                yield counts
        finally:
            pool.shutdown(cancel_futures=True)


def _checked(seed: int) -> tuple[Counter[str], int, float]:
    """Check a log; gives its outcomes, and this process's id and resident memory (MiB)."""
    counts = check(seed)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return counts, os.getpid(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20
