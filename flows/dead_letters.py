"""Dead letters: keep every refused record in a table, with its bytes and all reasons.

    dead.letters ─> decode ─> quality.dead_letters

A record of the topic that is no dead letter itself becomes a row too, with its bytes and a code.
"""

from __future__ import annotations

from collections.abc import Callable

from bytewax import operators as op
from bytewax.dataflow import Dataflow

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.avro.readers import DeadLetterReader
from flows.connectors.kafka_source import KafkaSource
from flows.connectors.timescale import TimescaleSink
from flows.domain.batch import Batch
from flows.domain.checkpoint import Positions
from flows.domain.tables import DEAD_LETTERS
from flows.runtime.launch import Process, subscription

Read = Callable[[Batch], DeadLetterReader]


def build(dead: KafkaSource, decode: Read, positions: Positions, table: TimescaleSink) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the table."""
    flow = Dataflow("deadletters")
    polled = op.input("dead", flow, dead)
    read = op.map("decode", op.map("position", polled, positions.passed), decode)
    op.output("table", op.map("rows", read, lambda r: ("rows", r)), table)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare("deadletters")
    telemetry = process.telemetry
    positions, reader = Positions(), DeadLetterReader(settings.topic_dead_letters)
    read = subscription(settings, settings.topic_dead_letters, "deadletters")
    dead = KafkaSource(read, positions, process.stopping, telemetry.source)
    table = TimescaleSink(
        settings.database_url,
        [DEAD_LETTERS],
        DeadLetterReader.take,
        process.stopping,
        settings.startup_seconds,
        observer=telemetry.sinks,
    )
    process.begin(dead, table)
    return build(
        dead, telemetry.flow.step("decode", reader.read, telemetry.flow.read), positions, table
    )
