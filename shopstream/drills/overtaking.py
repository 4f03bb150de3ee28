"""Retention that deletes records before a flow has read them."""

from __future__ import annotations

import signal
import time
from typing import Any

from confluent_kafka import TopicPartition

from flows.registry import BY_NAME, UPSTREAM_FIRST
from shopstream.drills import steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import LOOK_SECONDS, Stage, expect
from shopstream.kafka.groups import Group

SETTING = "SHOPSTREAM_LOST_RECORDS"
ACCEPTS_AT_MOST = 6
SENT = 60


def retention(stage: Stage, private: PrivateServices, seed: int, flow: str) -> dict[str, Any]:
    """Let retention overtake a flow while it is down, then while it runs.

    Under the policy `fail` the flow stops and the operator accepts; under `continue` it goes on.
    Either way the ledger has the exact number.
    """
    did = {p: _overtaken(stage, flow, p, seed + i) for i, p in enumerate(("fail", "continue"))}
    # started last under `continue`
    did["running"] = _overtaken_running(stage, flow, seed + 100)
    return did


def _overtaken(stage: Stage, flow: str, policy: str, seed: int) -> dict[str, Any]:
    for name in UPSTREAM_FIRST:
        if name not in stage.actors:
            stage.start(name)
    stage.produce(steps.views(seed, SENT))
    stage.drain()
    stage.stop(flow)
    known = stage.losses()
    stage.produce(steps.views(seed + 1_000, SENT))
    if flow != "clean":
        stage.drain("clean")
    deleted = delete_unread(stage, flow, keep=2)
    expect(deleted > 0, f"nothing was deleted before {flow} had read it")
    stage.start(flow, **{SETTING: policy})
    errors = _accepted(stage, flow) if policy == "fail" else []
    stage.drain()
    losses = [row for row in stage.losses() if row not in known]
    lost = _deleted_by(losses, flow)
    expect(lost == deleted, f"{flow}: {deleted} records were deleted, the ledger has {losses}")
    _expect_account(stage, flow)
    return {"deleted": deleted, "errors": errors, "losses": losses}


def _accepted(stage: Stage, flow: str) -> list[str]:
    """See a flow stop, accept, and see it run; once more where the numbers have a hole, too."""
    errors = []
    for _ in range(ACCEPTS_AT_MOST):
        errors.append(steps.stops(stage, flow, f"accept-loss {flow}"))
        steps.operate(stage, "accept-loss", flow, "--yes")
        stage.start(flow)
        if _goes_on(stage, flow):
            return errors
    expect(False, f"{flow} stopped after {ACCEPTS_AT_MOST} times accept-loss: {errors}")
    return errors


def _goes_on(stage: Stage, flow: str) -> bool:
    process = stage.actors[flow].process
    while process.poll() is None:
        if stage.is_drained(flow):
            return True
        time.sleep(LOOK_SECONDS)
    return process.poll() != steps.STOPPED


def _overtaken_running(stage: Stage, flow: str, seed: int) -> dict[str, Any]:
    """Delete records while a flow stands still, as one does that is too slow.

    What the client had fetched is read all the same.
    """
    known = stage.losses()
    process = stage.actors[flow].process
    process.send_signal(signal.SIGSTOP)
    try:
        for portion in range(3):
            stage.produce(steps.views(seed + 2_000 + portion, SENT))
        if flow != "clean":
            stage.drain("clean")
        deleted = delete_unread(stage, flow, keep=2)
    finally:
        process.send_signal(signal.SIGCONT)
    stage.drain()
    losses = [row for row in stage.losses() if row not in known]
    lost = _deleted_by(losses, flow)
    expect(0 < lost <= deleted, f"{flow}: {deleted} were deleted, the ledger has {losses}")
    # exactly what was not read is lost: else outcomes and offsets, or events, would not add up
    _expect_account(stage, flow)
    return {"deleted": deleted, "losses": losses}


def _expect_account(stage: Stage, flow: str) -> None:
    """Hold the account of every record; of lost tallies, the residue is what tells it."""
    if flow != "quality":
        steps.no_residue(stage)


def _deleted_by(losses: list[tuple[Any, ...]], flow: str) -> int:
    return sum(row[5] for row in losses if row[0] == flow and row[6].startswith("deleted"))


def delete_unread(stage: Stage, flow: str, keep: int) -> int:
    """Delete all but the newest records of a flow's topic; gives how many it has not read."""
    with Group(stage.settings, BY_NAME[flow]) as group:
        places, name = group.places(), group.topic
    ends = [TopicPartition(name, p.partition, max(p.low, p.high - keep)) for p in places]
    client = steps.admin(stage)
    for future in client.delete_records(ends).values():
        future.result(timeout=20)
    return sum(max(0, end.offset - place.resume) for place, end in zip(places, ends, strict=True))
