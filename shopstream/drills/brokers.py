"""A broker that dies, stays away, is slow, or loses the end of its log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.native.errors import ServicesError
from flows.registry import BY_NAME, UPSTREAM_FIRST
from shopstream.drills import records, steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.proxy import proxied
from shopstream.drills.stage import LOOK_SECONDS, Stage, expect
from shopstream.kafka.groups import Group

SLOW_SECONDS = 8
COUNT_SECONDS = 30.0
FIRST, KEPT, SECOND, HOLE = 100, 60, 50, 10


def broker(stage: Stage, private: PrivateServices, seed: int, away: int) -> dict[str, Any]:
    """Kill the broker, let it be away for a while, then slow, then silent."""
    stage.start_all()
    stage.produce(steps.views(seed * 4, 1_000))
    for number, seconds in enumerate((1, away), 1):
        stage.produce(steps.views(seed * 4 + number, 40))
        private.kill_kafka()
        steps.tend_for(stage, seconds)
        private.start_kafka()
        stage.produce(steps.views(seed * 4 + 2**9 + number, 40))
    proof = [*stage.prove(ledger=None)]
    try:
        did = _through_a_proxy(stage, private, seed)
    except ServicesError as reason:
        return {"away_seconds": [1, away], "skipped": {"slow": str(reason)}, "proof": proof}
    restarts = {name: actor.restarts for name, actor in stage.actors.items()}
    proof += stage.prove(ledger=None)
    return {"away_seconds": [1, away], **did, "restarts": restarts, "proof": proof}


def _through_a_proxy(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    with proxied(private) as proxy:
        stage.tend()
        proxy.poison("latency", latency=300, jitter=200)
        proxy.poison("bandwidth", rate=40)
        stage.produce(steps.views(seed * 4 + 2**10, 400))
        steps.tend_for(stage, SLOW_SECONDS)
        proxy.cure()
        stage.drain()
        # what is sent is lost, and nobody closes: a firewall that forgot the connection
        stage.produce(steps.views(seed * 4 + 2**11, 40))
        proxy.poison("timeout", timeout=0)
        steps.tend_for(stage, SLOW_SECONDS)
        proxy.cure()
        stage.produce(steps.views(seed * 4 + 2**12, 40))
        stage.drain()
    return {"slow_seconds": SLOW_SECONDS, "half_open_seconds": SLOW_SECONDS}


def power(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Cut the end of raw.web off, as a power cut does, and let new records take its offsets."""
    stage.start_all()
    _send(stage, seed, 0, FIRST)
    stage.drain()
    (kept,) = _lose_power(stage, private, {"raw_web": KEPT})
    _send(stage, seed, FIRST, SECOND)
    for flow in UPSTREAM_FIRST:
        stage.start(flow)
    error = steps.stops(stage, "clean", f"offsets {kept} to {FIRST - 1}", "accept-loss clean")
    answer = steps.operate(stage, "accept-loss", "clean", "--yes")
    stage.start("clean")
    proof = stage.prove(ledger=None)
    wanted = ("clean", stage.topic("raw_web"), 0, kept, FIRST, FIRST - kept)
    losses = stage.losses()
    expect([row[:6] for row in losses] == [wanted], f"the ledger has {losses}, not {wanted}")
    _expect_counted(stage, FIRST + SECOND)
    return {"cut_at": kept, "error": error, "answer": answer, "losses": losses, "proof": proof}


def power_of_outputs(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Cut topics of ours off, whose records are in the tables already: nothing is lost."""
    stage.start_all()
    _send(stage, seed, 0, FIRST)
    stage.drain()
    cut = _lose_power(stage, private, {"clean_web": -30, "tallies": -2})
    stage.start_all()
    _send(stage, seed, FIRST, SECOND)
    stage.drain()
    _expect_counted(stage, FIRST + SECOND)
    proof = steps.no_residue(stage)
    losses = stage.losses()
    expect(losses == [], f"nothing is lost, the ledger has {losses}")
    return {"cut_at": cut, "losses": losses, "proof": proof}


def power_of_events(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Lose accepted events that metrics has not read: their numbers have a hole."""
    stage.start_all()
    _send(stage, seed, 0, FIRST)
    stage.drain()
    stage.stop("metrics")
    _send(stage, seed, FIRST, SECOND)
    stage.drain("clean")
    end = _end_of(stage, "metrics")
    (cut,) = _lose_power(stage, private, {"clean_web": -HOLE})
    lost = end - cut
    stage.start_all()
    _send(stage, seed, FIRST + SECOND, SECOND)
    error = steps.stops(stage, "metrics", f"{lost} ", "accept-loss metrics")
    answer = steps.operate(stage, "accept-loss", "metrics", "--yes")
    stage.start("metrics")
    stage.drain()
    _expect_counted(stage, FIRST + 2 * SECOND - lost)
    proof = steps.no_residue(stage)
    losses = stage.losses()
    expect(sum(row[5] for row in losses) == lost, f"{lost} events are lost, the ledger: {losses}")
    return {"cut_at": cut, "error": error, "answer": answer, "losses": losses, "proof": proof}


def _send(stage: Stage, seed: int, first: int, count: int) -> None:
    """Send events of partition 0 one by one, so that a log can be cut between two of them.

    Within a drill they are of one moment: what was counted before a cut and behind it is of the
    same minute.
    """
    at = stage.began_ms
    for i in range(first, first + count):
        # another visitor each time, since one is counted once in each log within a minute
        event = records.view(seed * 2**40 + i, f"v{first}", at)
        stage.produce([records.keyed(event)], partition=0)


def _expect_counted(stage: Stage, expected: int) -> None:
    # a group that has not noticed the cut stands behind the end, and seems to have read all
    until = time.monotonic() + COUNT_SECONDS
    while steps.counted(stage) < expected and time.monotonic() < until:
        steps.tend_for(stage, LOOK_SECONDS)
    actual = steps.counted(stage)
    expect(actual == expected, f"gold counts {actual} events, not {expected}")


def _end_of(stage: Stage, flow: str) -> int:
    with Group(stage.settings, BY_NAME[flow]) as group:
        return group.places()[0].high


def _lose_power(stage: Stage, private: PrivateServices, keep: dict[str, int]) -> list[int]:
    """End the flows, kill the broker, cut partitions 0 of topics, and start it.

    A number below 0 is how many records go. Gives where the logs end now.
    """
    stage.stop(*stage.actors)
    private.kill_kafka()
    cuts = [
        cut(private.log_folder / f"{stage.topic(topic)}-0", number)
        for topic, number in keep.items()
    ]
    private.start_kafka()
    return cuts


def cut(folder: Path, keep: int) -> int:
    """Cut a partition's log off behind its first records, or by so many if `keep` is below 0.

    A batch is kept or cut whole. Gives the offset at which the log ends now.
    """
    *_, segment = sorted(folder.glob("*.log"))
    ends = list(_batches(segment.read_bytes()))
    bound = keep if keep >= 0 else ends[-1][1] + keep
    position, end = next((e for e in ends if e[1] >= bound), ends[-1])
    if keep < 0 and end > bound:
        position, end = max((e for e in ends if e[1] <= bound), default=(0, 0))
    with segment.open("r+b") as log:
        log.truncate(position)
    # what claims more than the log holds went with the power, too
    for pattern in ("*.index", "*.timeindex", "*.snapshot"):
        for file in folder.glob(pattern):
            file.unlink()
    for checkpoint in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        _forget(folder.parent / checkpoint, folder.name)
    return end


def _batches(data: bytes) -> Iterator[tuple[int, int]]:
    """Give the position and the offset behind each batch of a segment."""
    position = 0
    while position < len(data):
        base = int.from_bytes(data[position : position + 8], "big")
        length = int.from_bytes(data[position + 8 : position + 12], "big")
        last_delta = int.from_bytes(data[position + 23 : position + 27], "big")
        position += 12 + length
        yield position, base + last_delta + 1


def _forget(checkpoint: Path, partition: str) -> None:
    """Remove a partition's line from a checkpoint of the broker."""
    # a broker that was killed before its first checkpoint leaves an empty file
    if not checkpoint.exists() or not checkpoint.read_text():
        return
    version, _, *lines = checkpoint.read_text().splitlines()
    topic, _, number = partition.rpartition("-")
    kept = [line for line in lines if not line.startswith(f"{topic} {number} ")]
    checkpoint.write_text("\n".join([version, str(len(kept)), *kept]) + "\n")
