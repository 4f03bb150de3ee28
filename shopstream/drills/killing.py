"""SIGKILL of every process: anywhere, and at the points where it would hurt most.

`python -m shopstream.drills.killing POINT NUMBER FLOW` runs a flow that kills itself when it comes
to a point for the n-th time: the product has no code for that.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from flows.registry import UPSTREAM_FIRST
from shopstream.drills.stage import ROLLUP, Stage, expect

POINTS = {
    "after poll": ("flows.connectors.kafka_source", "Reader", "_poll", "after"),
    "before flush": ("flows.connectors.kafka_sink", "Writer", "flush", "before"),
    "rows taken, not submitted": ("flows.connectors.timescale", "Writer", "_next", "after"),
    "before a transaction": ("flows.connectors.upserter", "Upserter", "write", "before"),
    "in mid-COPY": ("psycopg", "Copy", "write", "after"),
    "before COMMIT": ("flows.connectors.upserts", "UpsertStatements", "changes", "after"),
    "after COMMIT": ("flows.connectors.places", "Places", "committed", "before"),
    "between flush and commit": ("flows.connectors.kafka_source", "Reader", "commit", "before"),
    "in mid-rewind": ("flows.domain.checkpoint", "Progress", "advance", "after"),
}
"""Name -> where: module, class, function, and whether before or after it."""
# not every flow comes to every point: clean writes no table, and only two rebuild a state
POINT_SECONDS = 12.0


def kill_anywhere(stage: Stage, seed: int, kills: int) -> dict[str, Any]:
    """Kill processes at random moments while records come, then prove the numbers."""
    chance = random.Random(seed)
    seconds = max(8.0, kills * 0.6)
    stage.start_all(SHOPSTREAM_BATCH_RECORDS="500")
    sending = stage.generate("--rate", "500", "--duration", f"{seconds:.0f}", "--seed", str(seed))
    names = [*UPSTREAM_FIRST, ROLLUP]
    killed = dict.fromkeys(names, 0)
    for _ in range(kills):
        name = chance.choice(names)
        time.sleep(chance.random() * 1.2 * seconds / max(kills, 1))
        stage.tend()
        if stage.actors[name].process.poll() is None:
            stage.kill(name)
            killed[name] += 1
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 600)
    expect(sending.returncode == 0, "the generator failed: see generator.log")
    return {"kills": killed, "proof": stage.prove()}


def kill_at_points(stage: Stage, seed: int) -> dict[str, Any]:
    """Kill each flow at each named point, several times, then prove the numbers."""
    chance = random.Random(seed)
    sending = stage.generate("--rate", "300", "--duration", "60", "--seed", str(seed))
    stage.start(ROLLUP)
    deaths = {}
    for point in POINTS:
        for flow in UPSTREAM_FIRST:
            number = chance.randrange(2, 6)
            stage.start(flow, "shopstream.drills.killing", DRILL_POINT=f"{point}|{number}")
        until = time.monotonic() + POINT_SECONDS
        dead: list[str] = []
        while time.monotonic() < until and len(dead) < len(UPSTREAM_FIRST):
            time.sleep(0.1)
            dead = [f for f in UPSTREAM_FIRST if stage.actors[f].process.poll() == -signal.SIGKILL]
        for flow in UPSTREAM_FIRST:
            stage.forget(flow) if flow not in dead else stage.actors.pop(flow)
        deaths[point] = dead
        expect(bool(dead), f"no flow came to the point {point!r}")
    for flow in UPSTREAM_FIRST:
        stage.start(flow)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 120)
    return {"deaths": deaths, "proof": stage.prove()}


def arm(point: str, number: int) -> None:
    """Make this process kill itself when it comes to a point for the n-th time."""
    module_name, class_name, function, moment = POINTS[point]
    module = __import__(module_name, fromlist=["_"])
    owner = module if class_name is None else getattr(module, class_name)
    original: Callable[..., Any] = getattr(owner, function)
    count = 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if moment == "before" and count >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if moment == "after" and count >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, function, deadly)


def main() -> None:
    """Run the flow that the command line names, armed."""
    from flows.runtime import launch

    point, _, number = os.environ.pop("DRILL_POINT").partition("|")
    arm(point, int(number))
    sys.argv = ["launch", sys.argv[1]]
    launch.main()


if __name__ == "__main__":
    main()
