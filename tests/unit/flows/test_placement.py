"""Placement: events that are not where their key belongs are told."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from flows.domain.placement import SAMPLE, Placement, partition_of
from flows.domain.web import WEB
from tests.fuzz.road import Road, batch_of
from tests.support import plain_oracle as oracle
from tests.support.plain_oracle import Stored
from tests.support.web_events import NOON, V2, event, uuid


def test_partitions_are_those_of_librdkafka_s_murmur2() -> None:
    """Which every producer of ours asks for; keys of every length modulo four."""
    placed: dict[bytes, int] = {}
    producer = Producer(
        {
            "bootstrap.servers": "in-process",
            "test.mock.num.brokers": 1,
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    keys = [b"v" * (i % 9) + f"{i}".encode() for i in range(60)]
    for key in keys:
        producer.produce(
            "placed",
            b"",
            key,
            on_delivery=lambda _, m: placed.update({m.key() or b"": m.partition() or 0}),
        )
    assert producer.flush(30) == 0
    partitions = len(producer.list_topics("placed", timeout=10).topics["placed"].partitions)
    assert placed == {key: partition_of(key, partitions) for key in keys}


@pytest.mark.parametrize("share", [0, 1])
def test_events_in_another_partition_are_counted(share: int) -> None:
    log = []
    for i in range(100):
        visitor = f"visitor-{i}"
        home = partition_of(visitor.encode(), 4)
        value = V2.frame(event(event_id=uuid(i), visitor_id=visitor))
        log.append(Stored((home + share) % 4, i, NOON + 300, value))
    road = Road(oracle.Limits(), range(4))
    judged = road.cleaning.clean(road.decoder.decode(batch_of(log))).judged
    assert Placement(WEB, 4).misplaced(judged) == (SAMPLE, SAMPLE * share)
