"""What `shopstream doctor` says of a pipeline: all well, and what is not."""

from __future__ import annotations

import sys

import pytest

from tests.support.stack import Stack
from tests.support.traffic import mixed

pytestmark = pytest.mark.services


def examined(stack: Stack, number: int) -> tuple[int, dict[str, str]]:
    """Run it; give its exit code, and the rest of each line by what was looked at."""
    name = f"doctor-{number}"
    code = stack.exit_of(stack.run(name, [sys.executable, "-m", "shopstream", "doctor"]), 120)
    lines = [line for line in stack.log(name).splitlines() if ": " in line]
    return code, {line[5:].split(": ")[0]: line for line in lines}


def test_a_drained_pipeline_is_well_and_then_records_wait_for_nobody(stack: Stack) -> None:
    stack.produce(mixed(300, seed=41))
    flows = stack.start_all()
    stack.drain()
    assert set(stack.terminate(*flows.values())) == {0}
    rollup = stack.run("rollup", [sys.executable, "-m", "shopstream", "rollup"])
    assert stack.exit_of(rollup) == 0
    code, said = examined(stack, 1)
    assert code == 0, said
    assert said["records"] == "ok   records: each has one outcome"
    assert said["accepted events"] == "ok   accepted events: gold counts each"
    assert said["ledger of losses"] == "ok   ledger of losses: empty"
    raw = stack.topic("raw.web")
    assert said[f"identity of {raw}"].endswith(": the one that was counted")
    assert said["reading of clean"].endswith("no partition waits")

    stack.produce([(b"k", b"nobody reads this")], partition=2)
    stack.execute("UPDATE ops.counted_1m SET events = events - 1 WHERE partition = 1")
    stack.execute(
        "INSERT INTO ops.losses (flow, topic, partition, from_offset, to_offset, records, why)"
        f" VALUES ('clean', '{raw}', 0, 5, 12, 7, 'deleted before it was read')"
    )
    stack.execute(f"UPDATE ops.topics SET incarnation = incarnation + 25600 WHERE topic = '{raw}'")
    code, said = examined(stack, 2)
    assert code == 1
    assert said["reading of clean"].startswith("BAD  reading of clean: 1 records wait, and nobody")
    assert "partitions 2. Start the flow" in said["reading of clean"]
    assert said["reading of metrics"].startswith("ok")
    assert said["accepted events"].startswith("BAD  accepted events: gold is ")
    assert said["ledger of losses"].startswith("ok   ledger of losses: 7 records in 1 entries")
    assert "Run `python -m shopstream reattach`" in said[f"identity of {raw}"]
