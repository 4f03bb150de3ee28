"""Clean: decide for every raw record whether it can be trusted.

    raw.* ─> decode ─> judge ─┬─> accepted ──> clean.*
                              ├─> refused ───> dead.letters
                              └┄┄ tallies ┄┄┄> tallies        (┄ pulled when a flush is due)

Everything is local to a partition; no state is saved (domain/cleaning.py rebuilds it from the log).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows import registry
from flows.connectors.avro import encode
from flows.connectors.avro.decode import Decoder
from flows.connectors.avro.encode import CleanEncoder, TallyRecords
from flows.connectors.avro.schemas import ConfluentIds
from flows.connectors.records import AnyRecords, Records, write
from flows.domain.batch import Batch, Decoded
from flows.domain.budget import RejectBudget
from flows.domain.cleaning import Cleaned, Cleaning
from flows.domain.dead_letters import RefusedEvents
from flows.domain.families import BY_NAME
from flows.domain.judge import Limits
from flows.domain.kernels.warm import warm_reading
from flows.domain.placement import Placement
from flows.runtime.launch import Process
from flows.runtime.telemetry.collector import StateView


@dataclass(frozen=True)
class Steps:
    """What the steps of the graph do."""

    decode: Callable[[Batch], Decoded]
    judge: Callable[[Decoded], Cleaned]
    accepted: Callable[[Cleaned], AnyRecords]
    refused: Callable[[Cleaned], Records]


@dataclass(frozen=True)
class Sinks:
    """Where the graph ends."""

    clean: Sink[tuple[str, AnyRecords]]
    dead: Sink[tuple[str, Records]]
    tallies: Sink[tuple[str, Cleaned]]


def build(name: str, raw: Source[Batch], steps: Steps, sinks: Sinks) -> Dataflow:
    """Wire the graph.

    Delivery: at-least-once to all outputs; readers of clean topics fence repeats.
    """
    flow = Dataflow(name)
    polled = op.input("raw", flow, raw)
    decoded = op.map("decode", polled, steps.decode)
    judged = op.map("judge", decoded, steps.judge)
    write("clean", op.map("accepted", judged, steps.accepted), sinks.clean)
    write("dead", op.map("refused", judged, steps.refused), sinks.dead)
    write("tallies", judged, sinks.tallies)
    return flow


def flow(family_name: str = "web") -> Dataflow:
    """Make the flow of this process from the settings in its environment."""
    family = BY_NAME[family_name]
    process = Process.prepare(registry.cleaning(family))
    settings, observe = process.settings, process.telemetry.flow
    if kernels := settings.kernels == "on":
        warm_reading()
    decoder = Decoder(family, ConfluentIds(settings.registry), settings.max_record_bytes, kernels)
    cleaning = Cleaning(
        family,
        Limits(settings.allowed_lateness, settings.future_tolerance),
        RejectBudget(settings.reject_budget_ratio, settings.reject_budget_records),
        kernels,
    )
    encoder = CleanEncoder(family)
    one_event = settings.clean_form == "event"
    refused = RefusedEvents(family, process.origin)
    process.telemetry.show(StateView(cleaning.watermarks, cleaning.sizes, cleaning.budget_used))
    steps = Steps(
        decode=observe.step("decode", decoder.decode),
        judge=observe.step("judge", cleaning.clean, observe.cleaned),
        accepted=encoder.one_event_per_record if one_event else encoder.one_batch_per_record,
        refused=lambda cleaned: encode.dead_letters(refused.dead_letters(cleaned)),
    )
    raw = process.source(cleaning)
    sinks = Sinks(
        clean=process.topic_sink(f"topic_clean_{family.name}"),
        dead=process.dead_letter_sink(),
        tallies=process.topic_sink(
            "topic_tallies", TallyRecords(cleaning.tallies, process.origin, raw.incarnation)
        ),
    )
    process.begin()
    observe.watch_placement(Placement(family, raw.partitions).misplaced)
    return build(process.flow.name, raw, steps, sinks)
