"""Metrics: count accepted events into every metric of the catalogue.

    clean.web ─> decode ─> count ─┬─ changed rows ─> gold.*, ops.progress
                    └─ unreadable ──> dead.letters

Rows hold absolute numbers and replace what is stored only when they count more events: repeating is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

from bytewax import operators as op
from bytewax.dataflow import Dataflow

from flows.connectors.kafka_sink import LETTER_BYTES, KafkaSink
from flows.connectors.kafka_source import KafkaSource
from flows.connectors.readers import CleanReader
from flows.connectors.timescale import TimescaleSink
from flows.domain.counting import Counting
from flows.domain.tables import GOLD, PROGRESS
from flows.runtime.launch import Process, destination, subscription


@dataclass(frozen=True)
class Outputs:
    gold: TimescaleSink
    dead: KafkaSink


def build(clean: KafkaSource, reader: CleanReader, counting: Counting, outputs: Outputs) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the tables."""
    flow = Dataflow("metrics")
    polled = op.input("clean", flow, clean)
    read = op.map("decode", polled, reader.read)
    op.output("dead", op.map("unreadable", read, lambda r: ("dead", r)), outputs.dead)
    op.output("gold", op.map("count", read, lambda r: ("gold", counting.count(r))), outputs.gold)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare()
    counting = Counting(settings.topic_raw_web, settings.allowed_lateness, settings.query_cap)
    reader = CleanReader(settings.topic_clean_web, "metrics")
    clean = KafkaSource(subscription(settings, settings.topic_clean_web, "metrics"), counting, process.stopping)
    outputs = Outputs(
        TimescaleSink(
            settings.database_url, [*GOLD.values(), PROGRESS], Counting.take, process.stopping, settings.startup_seconds
        ),
        KafkaSink(destination(settings, settings.topic_dead_letters, LETTER_BYTES), reader.unreadable),
    )
    process.begin(clean, outputs.gold, outputs.dead)
    return build(clean, reader, counting, outputs)
