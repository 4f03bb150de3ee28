"""Quality: keep what clean counted, by outcome and by rule.

tallies ─> decode ─┬─ newest counts ─> quality.outcomes_1m, quality.rules_1m
                   └─ unreadable ────> dead.letters
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bytewax import operators as op
from bytewax.dataflow import Dataflow

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.avro.readers import TallyReader
from flows.connectors.kafka_sink import DEAD_LETTER_BYTES, KafkaSink
from flows.connectors.kafka_source import KafkaSource
from flows.connectors.timescale import TimescaleSink
from flows.domain.batch import Batch
from flows.domain.checkpoint import Positions
from flows.domain.tables import OUTCOMES, RULES
from flows.runtime.launch import Process, destination, subscription


@dataclass(frozen=True)
class Outputs:
    tables: TimescaleSink
    dead: KafkaSink


Read = Callable[[Batch], TallyReader]


def build(tallies: KafkaSource, decode: Read, positions: Positions, outputs: Outputs) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the tables."""
    flow = Dataflow("quality")
    polled = op.input("tallies", flow, tallies)
    read = op.map("decode", op.map("position", polled, positions.passed), decode)
    op.output("dead", op.map("unreadable", read, lambda r: ("dead", r)), outputs.dead)
    op.output("tables", op.map("rows", read, lambda r: ("rows", r)), outputs.tables)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare("quality")
    telemetry = process.telemetry
    positions, reader = Positions(), TallyReader(settings.topic_tallies, "quality")
    read = subscription(settings, settings.topic_tallies, "quality")
    tallies = KafkaSource(read, positions, process.stopping, telemetry.source)
    outputs = Outputs(
        TimescaleSink(
            settings.database_url,
            [OUTCOMES, RULES],
            TallyReader.take,
            process.stopping,
            settings.startup_seconds,
            observer=telemetry.sinks,
        ),
        KafkaSink(
            destination(settings, settings.topic_dead_letters, DEAD_LETTER_BYTES),
            reader.unreadable,
            telemetry.sinks,
        ),
    )
    process.begin(tallies, outputs.tables, outputs.dead)
    return build(
        tallies, telemetry.flow.step("decode", reader.read, telemetry.flow.read), positions, outputs
    )
