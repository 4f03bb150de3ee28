"""Records that are gone before they were read: told exactly, and an operator's word lets a flow go
on. The drills make more of them (docs/guarantees.md)."""

from __future__ import annotations

import sys

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.stack import Stack, wait_until
from tests.support.traffic import mixed

pytestmark = pytest.mark.services


def operate(stack: Stack, *words: str) -> str:
    """Run a command of the operator, who says yes."""
    name = "-".join(words)
    process = stack.run(name, [sys.executable, "-m", "shopstream", *words, "--yes"])
    assert stack.exit_of(process) == 0, stack.log(name)
    return stack.log(name)


def delete_all(stack: Stack, topic: str) -> int:
    """Delete what a topic holds, as retention does; give how many records."""
    ends = stack.ends(topic)
    client = AdminClient(stack.settings().kafka.quiet_client())
    for future in client.delete_records(
        [TopicPartition(stack.topic(topic), p, end) for p, end in ends.items()]
    ).values():
        future.result(30)
    return sum(ends.values())


def counted(stack: Stack) -> int:
    ((events,),) = stack.query("SELECT coalesce(sum(events), 0)::int FROM gold.traffic_1m")
    return int(events)


def test_a_wiped_database_and_a_topic_without_its_beginning_go_on_with_the_operator_s_word(
    stack: Stack,
) -> None:
    """The group says that all was read, the tables say nothing, and the records are gone."""
    stack.produce(mixed(400, seed=31))
    flows = stack.start_all()
    stack.drain()
    assert counted(stack) > 0
    assert set(stack.terminate(*flows.values())) == {0}
    gone = delete_all(stack, "clean.web")
    for table in ("gold.traffic_1m_by_partition", "ops.checkpoints", "ops.progress"):
        stack.execute(f"TRUNCATE {table}")

    stack.start("clean")
    stack.produce(mixed(300, seed=32))
    stack.drain("clean")
    assert stack.exit_of(stack.start("metrics")) == 3
    assert "accept-loss metrics" in stack.log("metrics").strip().splitlines()[-1]
    assert "passes over what is lost" in operate(stack, "accept-loss", "metrics")
    stack.start("metrics")
    stack.drain("metrics")
    fresh = sum(stack.ends("clean.web").values()) - gone
    wait_until("the new events", lambda: counted(stack) == fresh)
    ledger = stack.query("SELECT sum(records)::int FROM ops.losses WHERE flow = 'metrics'")
    assert ledger == [(gone,)]


def test_a_rewind_fills_emptied_tables_again(stack: Stack) -> None:
    stack.produce(mixed(400, seed=33))
    flows = stack.start_all()
    stack.drain()
    before = stack.query("SELECT * FROM gold.traffic_1m ORDER BY 1, 2, 3, 4, 5, 6")
    assert before
    assert set(stack.terminate(*flows.values())) == {0}
    stack.execute("TRUNCATE gold.traffic_1m_by_partition")
    assert "from its beginning" in operate(stack, "rewind", "metrics")
    stack.start("metrics")
    wait_until(
        "the same rows",
        lambda: stack.query("SELECT * FROM gold.traffic_1m ORDER BY 1, 2, 3, 4, 5, 6") == before,
    )


def test_a_topic_that_was_not_made_anew_needs_no_reattach(stack: Stack) -> None:
    stack.produce(mixed(50, seed=34))
    flows = stack.start_all()
    stack.drain()
    assert set(stack.terminate(*flows.values())) == {0}
    assert "nothing was made anew" in operate(stack, "reattach")
