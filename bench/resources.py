"""What processes took of the machine, from /proc: CPU seconds, peak memory, and others' share."""

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
    """Give user and system time of a process and its threads; 0 for one that has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """Give the peak resident memory of a process (VmHWM)."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True)
class MachineTime:
    """CPU seconds of the whole machine so far: used, left over, and taken by its host."""

    busy: float
    idle: float
    steal: float


def machine_time() -> MachineTime:
    """Read it; stolen time is busy too, for it was not to be had."""
    user, nice, system, idle, wait, irq, softirq, steal = (
        int(ticks) / TICKS for ticks in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return MachineTime(user + nice + system + irq + softirq + steal, idle + wait, steal)


@dataclass(frozen=True)
class CpuSample:
    """CPU seconds so far, of the machine and by process name and id.

    Time: `at` is monotonic.
    """

    at: float
    machine: MachineTime
    by_process: Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class CpuUsage:
    """CPU seconds between two samples: by process name, and of everything else on the machine."""

    seconds: float
    cpu: Mapping[str, float]
    others: float
    idle: float
    steal: float

    @property
    def others_ratio(self) -> float:
        """Give the part of the machine that others took.

        Units: above a few hundredths the speeds of the bench are too low.
        """
        return self._of_machine(max(0.0, self.others))

    def shares(self) -> dict[str, float]:
        """Give the parts of the machine that were others', idle and stolen, for the results."""
        return {
            "others_cpu_ratio": round(self.others_ratio, 3),
            "idle_ratio": round(self._of_machine(self.idle), 3),
            "steal_ratio": round(self._of_machine(self.steal), 3),
        }

    def _of_machine(self, seconds: float) -> float:
        return seconds / (self.seconds * (os.cpu_count() or 1)) if self.seconds else 0.0


class Meter:
    """Sample named processes, the broker, and the backends of one database."""

    def __init__(self, services: Services, database: str) -> None:
        self._db = connect(services.database_url, 10.0)
        self._database = database
        self._broker = int((NATIVE.parent / "kafka.pid").read_text().split("\n", 1)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def sample(self, processes: Mapping[str, int]) -> CpuSample:
        """Read the CPU seconds of all processes so far."""
        pids = list(processes.items())
        pids += [(BROKER, self._broker), ("bench", os.getpid())]
        pids += [(DATABASE, pid) for pid in self._backends()]
        return CpuSample(
            time.monotonic(), machine_time(), {(name, pid): cpu_seconds(pid) for name, pid in pids}
        )

    def _backends(self) -> list[int]:
        """Give the backends of the database, and the processes that write for all databases."""
        rows = self._db.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s"
            " OR backend_type IN ('checkpointer', 'background writer', 'walwriter')",
            (self._database,),
        )
        return [pid for (pid,) in rows]


def usage_between(first: CpuSample, last: CpuSample) -> CpuUsage:
    """Subtract two samples; a process that started in between counts from its start."""
    cpu: dict[str, float] = {}
    for (name, pid), seconds in last.by_process.items():
        cpu[name] = cpu.get(name, 0.0) + seconds - first.by_process.get((name, pid), 0.0)
    before, after = first.machine, last.machine
    return CpuUsage(
        last.at - first.at,
        cpu,
        after.busy - before.busy - sum(cpu.values()),
        after.idle - before.idle,
        after.steal - before.steal,
    )


def machine() -> dict[str, Any]:
    """Describe the machine, to judge the figures by, without anything that names it."""
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
