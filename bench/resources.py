"""What processes took of the machine, read from /proc: CPU seconds, the most memory, and what
everybody else took.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from database.connection import connect
from shopstream.demo.dev_services import NATIVE, Services

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
BROKER, DATABASE = "broker", "postgres"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads; 0 for one that is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process ever had resident (VmHWM). Units: MiB."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def busy_seconds() -> float:
    """CPU time of the whole machine that was not idle, what the hypervisor took included."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


@dataclass(frozen=True)
class Look:
    """CPU seconds so far, by process. Time: `at` is monotonic."""

    at: float
    busy: float
    spent: Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class Spent:
    """CPU seconds between two looks: by name, and of everything else on the machine."""

    seconds: float
    cpu: Mapping[str, float]
    others: float

    @property
    def others_ratio(self) -> float:
        """The part of the machine that was not ours: above a few hundredths, the figures are too
        low.
        """
        return (
            max(0.0, self.others) / (self.seconds * (os.cpu_count() or 1)) if self.seconds else 0.0
        )


class Meter:
    """Look at named processes, the broker, and the database's processes that serve one database."""

    def __init__(self, services: Services, database: str) -> None:
        self._db = connect(services.database_url, 10.0)
        self._database = database
        self._broker = int((NATIVE.parent / "kafka.pid").read_text().split("\n", 1)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def look(self, ours: Mapping[str, int]) -> Look:
        pids = [(name, pid) for name, pid in ours.items()]
        pids += [(BROKER, self._broker), ("bench", os.getpid())]
        pids += [(DATABASE, pid) for pid in self._backends()]
        return Look(
            time.monotonic(), busy_seconds(), {(name, pid): cpu_seconds(pid) for name, pid in pids}
        )

    def _backends(self) -> list[int]:
        """The connections to our database, and what writes for all of them."""
        found = self._db.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s"
            " OR backend_type IN ('checkpointer', 'background writer', 'walwriter')",
            (self._database,),
        )
        return [pid for (pid,) in found]


def between(first: Look, last: Look) -> Spent:
    """What was spent from one look to the next; a process that came in between counts from its
    start.
    """
    cpu: dict[str, float] = {}
    for (name, pid), seconds in last.spent.items():
        cpu[name] = cpu.get(name, 0.0) + seconds - first.spent.get((name, pid), 0.0)
    return Spent(last.at - first.at, cpu, last.busy - first.busy - sum(cpu.values()))


def machine() -> dict[str, Any]:
    """What a reader needs to sandbox the figures, and nothing that names the machine."""
    cpuinfo = (PROC / "cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")),
        platform.machine(),
    )
    memory = next(
        int(line.split()[1])
        for line in (PROC / "meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(memory / 1024**2, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }
