"""Dead letters: keep every refused record in a table, with its bytes and all reasons.

    dead.letters ─> decode ─> quality.dead_letters

A record of the topic that is no dead letter itself becomes a row too, with its bytes and a code.
"""

from __future__ import annotations

from bytewax import operators as op
from bytewax.dataflow import Dataflow

from flows.connectors.kafka_source import KafkaSource
from flows.connectors.readers import LetterReader
from flows.connectors.timescale import TimescaleSink
from flows.domain.checkpoint import Positions
from flows.domain.tables import DEAD_LETTERS
from flows.runtime.launch import Process, subscription


def build(dead: KafkaSource, reader: LetterReader, positions: Positions, table: TimescaleSink) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the table."""
    flow = Dataflow("deadletters")
    polled = op.input("dead", flow, dead)
    read = op.map("decode", op.map("position", polled, positions.passed), reader.read)
    op.output("table", op.map("rows", read, lambda r: ("rows", r)), table)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare()
    positions, reader = Positions(), LetterReader(settings.topic_dead_letters)
    dead = KafkaSource(subscription(settings, settings.topic_dead_letters, "deadletters"), positions, process.stopping)
    table = TimescaleSink(
        settings.database_url, [DEAD_LETTERS], LetterReader.take, process.stopping, settings.startup_seconds
    )
    process.begin(dead, table)
    return build(dead, reader, positions, table)
