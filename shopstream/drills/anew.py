"""Topics, a broker or a database that are other ones than before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg

from flows.registry import UPSTREAM_FIRST
from shopstream.drills import steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import PARTITIONS, Stage, expect
from shopstream.kafka import topics
from shopstream.verify.ledger import Ledger

LOAD = ("--rate", "300", "--duration", "5")
READERS = ("metrics", "quality", "deadletters")


def incarnation(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Make raw.web anew, then all of Kafka, then wipe the database."""
    stage.start_all()
    steps.generate(stage, "first", seed, *LOAD)
    proof = stage.prove("first")
    stage.stop(*stage.actors)

    before = _numbers(stage)
    make_anew(stage, "raw_web")
    steps.generate(stage, "second", seed + 1, *LOAD)
    errors = _stopped_and_attached(stage)
    sent, refused = _sent(stage, "second")
    _expect_more(stage, before, sent, refused, "raw.web made anew")
    proof.append(f"raw.web made anew: {steps.no_residue(stage)}")

    stage.stop(*stage.actors)
    before = _numbers(stage)
    private.kill_kafka()
    private.wipe_kafka()
    private.start_kafka()
    topics.ensure(stage.settings, PARTITIONS)
    steps.generate(stage, "third", seed + 2, *LOAD)
    errors += _stopped_and_attached(stage)
    sent, refused = _sent(stage, "third")
    _expect_more(stage, before, sent, refused, "Kafka wiped")
    proof.append(f"Kafka wiped: {steps.no_residue(stage)}")

    stage.stop(*stage.actors)
    wipe_database(stage, private)
    stage.start_all()
    proof += stage.prove("third")
    return {"errors": errors, "proof": proof}


def _stopped_and_attached(stage: Stage) -> list[str]:
    """Start the flows, see those stop that find a topic made anew, and attach it."""
    for flow in UPSTREAM_FIRST:
        stage.start(flow)
    errors = [steps.stops(stage, flow, "made anew", "reattach") for flow in READERS]
    # clean writes no tables: it stops only where the broker still has its group's offsets
    if stage.actors["clean"].process.poll() is not None:
        errors.append(steps.stops(stage, "clean", "made anew", "reattach"))
    errors.append(steps.operate(stage, "reattach", "--yes"))
    for flow in UPSTREAM_FIRST:
        if flow not in stage.actors:
            stage.start(flow)
    stage.drain()
    return errors


def _numbers(stage: Stage) -> tuple[int, int]:
    return steps.counted(stage), steps.letters(stage)


def _sent(stage: Stage, ledger: str) -> tuple[int, int]:
    """Give how many events of an answer key are accepted, and how many get a dead letter."""
    events = Ledger(stage.folder / ledger).events
    outcomes = Counter(event["expected_outcome"] for event in events)
    return outcomes["accepted"], outcomes["late"] + outcomes["rejected"]


def _expect_more(
    stage: Stage, before: tuple[int, int], accepted: int, refused: int, what: str
) -> None:
    events, letters = _numbers(stage)
    more = events - before[0], letters - before[1]
    wanted = accepted, refused
    expect(more == wanted, f"{what}: {more} more events and letters, not {wanted}")


def make_anew(stage: Stage, topic: str) -> None:
    """Delete a topic, and make it again."""
    client, name = steps.admin(stage), stage.topic(topic)
    client.delete_topics([name], operation_timeout=30)[name].result()
    stage.wait_until("the topic to go", lambda: name not in topics.existing(client), 30)
    topics.ensure(stage.settings, PARTITIONS)


def wipe_database(stage: Stage, private: PrivateServices) -> None:
    """Drop the database, and make it again."""
    name = stage.services.database_url.rpartition("/")[2]
    with psycopg.connect(private.services.database_url, autocommit=True) as owner:
        owner.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        owner.execute(f"CREATE DATABASE {name}".encode())
    steps.operate(stage, "migrate")
