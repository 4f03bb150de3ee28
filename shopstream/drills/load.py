"""Strange loads: what comes again and again, what is broken, what is lopsided, what is large."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from flows.registry import UPSTREAM_FIRST
from shopstream.drills import records
from shopstream.drills.stage import ROLLUP, SCALING, Stage, expect


def _played(stage: Stage, *options: str, seconds: float = 600) -> list[str]:
    stage.start_all()
    sending = stage.generate(*options)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, seconds)
    expect(sending.returncode == 0, "the generator failed: see generator.log")
    return stage.prove()


def storm(stage: Stage, seed: int, duration: int) -> dict[str, Any]:
    """Send every second record again."""
    options = ("--scenario", "duplicate_storm", "--rate", "500", "--duration", str(duration))
    return {"proof": _played(stage, *options, "--seed", str(seed))}


def poison(stage: Stage, seed: int, duration: int) -> dict[str, Any]:
    """Send records that nobody can read, a quarter of all."""
    options = ("--scenario", "corrupt", "--rate", "500", "--duration", str(duration))
    return {"proof": _played(stage, *options, "--seed", str(seed))}


def overlap(stage: Stage, seed: int, duration: int) -> dict[str, Any]:
    """Let two processes of each flow read the same partitions for a while."""
    stage.start_all()
    sending = stage.generate("--rate", "400", "--duration", str(duration), "--seed", str(seed))
    time.sleep(duration / 3)
    for flow in UPSTREAM_FIRST:
        stage.start(f"{flow}/again")
    time.sleep(duration / 3)
    for flow in UPSTREAM_FIRST:
        stage.forget(flow)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 120)
    return {"proof": stage.prove()}


def rescale(stage: Stage, seed: int, duration: int) -> dict[str, Any]:
    """Run 1, 2, 4 and again 1 process of each flow that scales, under load."""
    for name in (*(f for f in UPSTREAM_FIRST if f not in SCALING), ROLLUP):
        stage.start(name)
    sending = stage.generate("--rate", "400", "--duration", str(duration), "--seed", str(seed))
    steps = (1, 2, 4, 1)
    for count in steps:
        for flow in SCALING:
            for ordinal in range(count):
                stage.start(
                    f"{flow}/{ordinal}",
                    SHOPSTREAM_ORDINAL=str(ordinal),
                    SHOPSTREAM_COUNT=str(count),
                )
        time.sleep(duration / len(steps))
        if count != steps[-1] or sending.poll() is None:
            stage.tend()
        if (count, sending.poll()) != (1, 0) and count != steps[-1]:
            stage.stop(*(f"{flow}/{n}" for flow in SCALING for n in range(count)))
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 120)
    return {"steps": list(steps), "proof": stage.prove()}


def skew(stage: Stage, seed: int, events: int) -> dict[str, Any]:
    """Let one visitor send a third; one partition is idle, one is minutes behind the others."""
    stage.start_all()
    made = records.skewed(events, seed)
    for start in range(0, len(made), 2_000):
        for partition in (0, 1, 2):
            part = [(k, v) for p, k, v in made[start : start + 2_000] if p == partition]
            stage.produce(part, partition=partition)
    return {"proof": stage.prove(ledger=None)}


def constant_id(stage: Stage, seed: int, events: int, wait: int) -> dict[str, Any]:
    """Send one event id again and again with new content, for many latenesses."""
    stage.start_all()
    for portion in records.heartbeats(events, seed):
        stage.produce(portion, partition=0)
    stage.drain()
    # two minutes of Kafka's clock are counted again at a start, whatever their ids
    time.sleep(wait)
    stage.produce([records.keyed(records.view(seed * 2**41, "v1", records.now_ms()))], partition=0)
    proof = stage.prove(ledger=None)
    stage.stop(*stage.actors)
    began = time.monotonic()
    stage.start_all()
    stage.drain()
    rewinds = records.rewind_lengths(stage)
    # ten records per second of event time, within three latenesses of 10 s, and the notes' distance
    expect(rewinds["clean"] <= 1_500, f"clean has to read {rewinds['clean']:,} records again")
    return {"rewind_records": rewinds, "restart_seconds": time.monotonic() - began, "proof": proof}


def huge(stage: Stage, seed: int, visitors: int) -> dict[str, Any]:
    """Send values and keys at and over each limit, bombs, and many visitors of one window."""
    stage.start_all()
    stage.produce(records.at_limits(seed))
    stage.produce(records.bombs(), codec="lz4")
    stage.produce(records.crowd(visitors, seed))
    return {"proof": stage.prove(ledger=None)}


def years(stage: Stage, seed: int, days: int) -> dict[str, Any]:
    """Send years of daily events in one go."""
    stage.produce(records.daily(days, seed), partition=0)
    stage.start_all()
    return {"days": days, "proof": stage.prove(ledger=None)}


def soak(stage: Stage, seed: int, seconds: int, rate: int) -> dict[str, Any]:
    """Send a steady load: memory, files and threads of each flow stay as they are."""
    stage.start_all()
    sending = stage.generate(
        "--scenario", "normal", "--rate", str(rate), "--duration", str(seconds), "--seed", str(seed)
    )
    samples: dict[str, list[tuple[float, int, int, int]]] = {f: [] for f in UPSTREAM_FIRST}
    began = time.monotonic()
    while sending.poll() is None:
        stage.tend()
        for flow in UPSTREAM_FIRST:
            sample = usage(stage.actors[flow].process.pid)
            if sample is not None:
                samples[flow].append((time.monotonic() - began, *sample))
        time.sleep(1.0)
    expect(sending.returncode == 0, "the generator failed: see generator.log")
    slopes = {flow: slopes_of(rows[len(rows) // 2 :]) for flow, rows in samples.items()}
    return {"second_half_per_minute": slopes, "proof": stage.prove()}


def usage(pid: int) -> tuple[int, int, int] | None:
    """Give the resident memory (KiB), open files and threads of a process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]), files, int(fields["Threads"])


def slopes_of(rows: list[tuple[float, int, int, int]]) -> dict[str, float]:
    """Fit a line to each number: KiB, files and threads per minute."""
    if len(rows) < 3:
        return {}
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    spread = sum((row[0] - mean[0]) ** 2 for row in rows)
    return {
        name: round(60 * sum((row[0] - mean[0]) * (row[i] - mean[i]) for row in rows) / spread, 1)
        for i, name in enumerate(("kib", "files", "threads"), 1)
    }


def random_seed() -> int:
    """Draw a seed, which the result names."""
    return random.SystemRandom().randrange(2**31)
