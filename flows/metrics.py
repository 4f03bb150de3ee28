"""Metrics: count accepted events into every metric of the catalogue.

    clean.web ─> decode ─> count ─┬─ changed rows ─> gold.*, ops.progress
                    └─ unreadable ──> dead.letters

Rows hold absolute numbers and replace what is stored only when they count more events: repeating is
harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bytewax import operators as op
from bytewax.dataflow import Dataflow

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.avro.readers import CleanReader
from flows.connectors.kafka_sink import DEAD_LETTER_BYTES, KafkaSink
from flows.connectors.kafka_source import KafkaSource
from flows.connectors.timescale import TimescaleSink
from flows.domain.batch import Batch
from flows.domain.counting import CleanEvents, Counting
from flows.domain.tables import GOLD, PROGRESS
from flows.runtime.launch import Process, destination, subscription
from flows.runtime.telemetry.collector import StateView


@dataclass(frozen=True)
class Outputs:
    gold: TimescaleSink
    dead: KafkaSink


@dataclass(frozen=True)
class Steps:
    decode: Callable[[Batch], CleanEvents]
    count: Callable[[CleanEvents], Counting]


def build(clean: KafkaSource, steps: Steps, outputs: Outputs) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the tables."""
    flow = Dataflow("metrics")
    polled = op.input("clean", flow, clean)
    read = op.map("decode", polled, steps.decode)
    op.output("dead", op.map("unreadable", read, lambda r: ("dead", r)), outputs.dead)
    op.output("gold", op.map("count", read, lambda r: ("gold", steps.count(r))), outputs.gold)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare("metrics")
    telemetry = process.telemetry
    counting = Counting(settings.topic_raw_web, settings.allowed_lateness, settings.query_cap)
    reader = CleanReader(settings.topic_clean_web, "metrics")
    telemetry.show(StateView(counting.watermarks, counting.sizes))
    steps = Steps(
        telemetry.flow.step("decode", reader.read),
        telemetry.flow.step("count", counting.count, telemetry.flow.counted),
    )
    read = subscription(settings, settings.topic_clean_web, "metrics")
    clean = KafkaSource(read, counting, process.stopping, telemetry.source)
    outputs = Outputs(
        TimescaleSink(
            settings.database_url,
            [*GOLD.values(), PROGRESS],
            Counting.take,
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
    process.begin(clean, outputs.gold, outputs.dead)
    return build(clean, steps, outputs)
