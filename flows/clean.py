"""Clean: decide of every raw record whether it can be trusted.

    raw.web ─> decode ─> judge ─┬─ accepted ─> clean.web
                                ├─ refused ──> dead.letters
                                └─ counts ───> tallies

Everything is local to a partition; no state is saved (domain/cleaning.py rebuilds it from the log).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bytewax import operators as op
from bytewax.dataflow import Dataflow

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows.connectors.avro import encode, schemas
from flows.connectors.avro.decode import Decoder
from flows.connectors.kafka_sink import DEAD_LETTER_BYTES, KafkaSink, Records
from flows.connectors.kafka_source import KafkaSource
from flows.domain.batch import Batch
from flows.domain.budget import RejectBudget
from flows.domain.cleaning import Cleaned, Cleaning, Read
from flows.domain.judge import Limits
from flows.runtime.launch import Process, destination, subscription
from flows.runtime.telemetry.collector import StateView


@dataclass(frozen=True)
class Outputs:
    clean: KafkaSink
    dead: KafkaSink
    tallies: KafkaSink


@dataclass(frozen=True)
class Steps:
    decode: Callable[[Batch], Read]
    judge: Callable[[Read], Cleaned]


def build(raw: KafkaSource, steps: Steps, outputs: Outputs) -> Dataflow:
    """Wire the graph. Delivery: at-least-once to all outputs; readers of clean.web fence repeats."""
    flow = Dataflow("clean")
    polled = op.input("raw", flow, raw)
    read = op.map("decode", polled, steps.decode)
    cleaned = op.map("judge", read, lambda item: ("clean", steps.judge(item)))
    op.output("clean", cleaned, outputs.clean)
    op.output("dead", cleaned, outputs.dead)
    op.output("tallies", cleaned, outputs.tallies)
    return flow


def flow() -> Dataflow:
    """The flow of this process, from environment settings."""
    settings, process = Process.prepare("clean")
    telemetry = process.telemetry
    decoder = Decoder(
        schemas.load("web_event"),
        schemas.published("web_event"),
        schemas.ConfluentIds(settings.registry),
        settings.max_record_bytes,
    )
    cleaning = Cleaning(
        Limits(settings.allowed_lateness, settings.future_tolerance),
        RejectBudget(settings.reject_budget_ratio, settings.reject_budget_records),
    )

    def decode(batch: Batch) -> Read:
        decoded = decoder.decode(batch.payload)
        return Read(batch, decoded.events, decoded.bodies, decoded.refused)

    def dead_letters(cleaned: Cleaned) -> Records:
        return encode.dead_letters(cleaned, settings.topic_raw_web)

    def tallies(_: Cleaned) -> Records:
        return encode.tallies("clean", settings.topic_raw_web, cleaning.take_tallies())

    telemetry.show(StateView(cleaning.watermarks, cleaning.sizes, cleaning.budget_used))
    steps = Steps(
        telemetry.flow.step("decode", decode),
        telemetry.flow.step("judge", cleaning.clean, telemetry.flow.cleaned),
    )
    raw = KafkaSource(
        subscription(settings, settings.topic_raw_web, "clean"),
        cleaning,
        process.stopping,
        telemetry.source,
    )
    form = (
        encode.one_event_a_record if settings.clean_form == "event" else encode.one_batch_a_record
    )
    outputs = Outputs(
        KafkaSink(destination(settings, settings.topic_clean_web), form, telemetry.sinks),
        KafkaSink(
            destination(settings, settings.topic_dead_letters, DEAD_LETTER_BYTES),
            dead_letters,
            telemetry.sinks,
        ),
        KafkaSink(
            destination(settings, settings.topic_tallies),
            tallies,
            telemetry.sinks,
            every_seconds=0.5,
        ),
    )
    process.begin(raw, outputs.clean, outputs.dead, outputs.tallies)
    return build(raw, steps, outputs)
