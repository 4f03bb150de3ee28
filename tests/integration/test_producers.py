"""Records reach their topic alike by librdkafka's C interface and by the client of Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError

from flows.connectors.kafka_cluster import Cluster
from flows.connectors.kafka_sink import Destination, KafkaSink
from flows.connectors.producers import Edge, edge_of
from flows.connectors.records import BY_KEY, ColumnarRecords, Records
from flows.domain.errors import PermanentError, TransientError
from tests.support.ports import free_port
from tests.support.stack import Stack

EDGES: list[Edge] = ["native", "client"]


class Seen:
    """What a sink tells."""

    def __init__(self) -> None:
        self.full = 0
        self.errors: list[KafkaError] = []

    def waiting(self, sink: str) -> AbstractContextManager[None]:
        return nullcontext()

    def flushing(self, sink: str) -> AbstractContextManager[None]:
        return nullcontext()

    def acknowledged(self, timestamps: np.ndarray) -> None: ...

    def queue_full(self, topic: str) -> None:
        self.full += 1

    def kafka_error(self, error: KafkaError) -> None:
        self.errors.append(error)

    def each_turn(self, look: Any) -> None: ...


@contextmanager
def sink(stack: Stack, edge: Edge, **changes: Any) -> Iterator[tuple[Any, Seen]]:
    seen = Seen()
    destination = Destination(
        Cluster(stack.services.bootstrap), stack.topic("clean.web"), edge=edge, **changes
    )
    yield KafkaSink(destination, seen).open(), seen


def records(values: list[bytes], keys: list[bytes | None], partition: list[int]) -> ColumnarRecords:
    return ColumnarRecords(
        np.array(partition, np.int32), pa.array(values, pa.binary()), pa.array(keys, pa.binary())
    )


@pytest.mark.parametrize("edge", EDGES)
def test_records_arrive_as_they_are(stack: Stack, edge: Edge) -> None:
    values = [b"one", b"", b"\0\xff" * 40_000, b"four", b"five"]
    keys: list[bytes | None] = [b"k", b"", None, b"\0", b"key"]
    # a slice too: its memory begins before it
    every = pa.array([b"not this", *keys], pa.binary())
    part = ColumnarRecords(
        np.array([0, 0, 0, 1, 1], np.int32), pa.array([b"", *values], pa.binary())[1:], every[1:]
    )
    with sink(stack, edge) as (writer, _):
        writer.write_batch([part])
        writer.write_batch([Records({1: [{"value": b"six"}]})])
        writer.snapshot()
    written = [(r.partition, r.key, r.value) for r in stack.read("clean.web")]
    expected = list(zip([0, 0, 0, 1, 1], keys, values, strict=True))
    assert written == [*expected, (1, None, b"six")]


def test_keys_choose_the_same_partition_by_both_edges(stack: Stack) -> None:
    for edge in EDGES:
        with sink(stack, edge) as (writer, _):
            messages = [{"value": b"v", "key": b"visitor-%d" % n} for n in range(40)]
            writer.write_batch([Records({BY_KEY: messages})])
            writer.snapshot()
    where: dict[bytes | None, set[int]] = {}
    for record in stack.read("clean.web"):
        where.setdefault(record.key, set()).add(record.partition)
    assert len(where) == 40
    assert {len(partitions) for partitions in where.values()} == {1}


@pytest.mark.parametrize("edge", EDGES)
def test_a_full_queue_holds_the_flow_and_loses_nothing(stack: Stack, edge: Edge) -> None:
    count = 90_000  # the queue holds 40,000
    values = [b"%d" % n for n in range(count)]
    with sink(stack, edge) as (writer, seen):
        writer.write_batch([records(values, [None] * count, [n % 2 for n in range(count)])])
        writer.snapshot()
    assert seen.full
    read = stack.read("clean.web")
    for p in (0, 1):
        assert [r.value for r in read if r.partition == p] == values[p::2]


@pytest.mark.parametrize("edge", EDGES)
def test_a_record_that_is_too_large_ends_the_flow(stack: Stack, edge: Edge) -> None:
    large = records([b"x", b"y" * 2_000], [None, None], [0, 0])
    with (
        sink(stack, edge, max_bytes=1_000) as (writer, _),
        pytest.raises(PermanentError, match=r"does not take a record: .*too large"),
    ):
        writer.write_batch([large])


@pytest.mark.services
@pytest.mark.parametrize("edge", EDGES)
def test_a_record_that_the_broker_refuses_ends_the_flow(stack: Stack, edge: Edge) -> None:
    # larger than the broker takes, smaller than the client lets pass
    rubbish = np.random.default_rng(1).bytes(6_000_000)
    with sink(stack, edge, max_bytes=9_000_000, delivery_seconds=20.0) as (writer, _):
        writer.write_batch([records([rubbish], [None], [0])])
        with pytest.raises(PermanentError, match="were not delivered: "):
            writer.snapshot()


@pytest.mark.parametrize("edge", EDGES)
def test_a_broker_that_is_not_there_is_told(stack: Stack, edge: Edge) -> None:
    nowhere = Cluster(f"127.0.0.1:{free_port()}")
    destination = Destination(nowhere, "clean.web", startup_seconds=1.0, edge=edge)
    with pytest.raises(TransientError, match="does not answer"):
        KafkaSink(destination, Seen()).open()


def test_this_machine_has_the_library() -> None:
    assert edge_of("native") == "native"
    assert edge_of("client") == "client"
