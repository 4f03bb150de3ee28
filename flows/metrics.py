"""Metrics: count accepted events into every metric of their family.

    clean.* ─> decode ─┬─> count ┄┄┄┄┄┄> gold.*, ops.progress    (┄ pulled when a flush is due)
                       └─> unreadable ─> dead.letters

Rows hold absolute numbers and replace what is stored only when they count more events, so writing
them again is harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

import flows.runtime.one_thread  # noqa: F401  # takes effect before Polars is imported
from flows import registry
from flows.connectors.avro import encode
from flows.connectors.avro.readers import CleanReader
from flows.connectors.records import Records, write
from flows.domain.batch import Batch, Origin
from flows.domain.counting import CleanEvents, Counted, Counting, Windowing
from flows.domain.dead_letters import unreadable
from flows.domain.families import BY_NAME
from flows.domain.fence import Terms
from flows.domain.kernels.warm import warm
from flows.domain.tables import COUNTED, GOLD, PROGRESS
from flows.runtime.launch import Process
from flows.runtime.telemetry.collector import StateView


@dataclass(frozen=True)
class Steps:
    """What the steps of the graph do."""

    decode: Callable[[Batch], CleanEvents]
    unreadable: Callable[[CleanEvents], Records]
    count: Callable[[CleanEvents], Counted]


@dataclass(frozen=True)
class Sinks:
    """Where the graph ends."""

    gold: Sink[tuple[str, Counted]]
    dead: Sink[tuple[str, Records]]


def build(name: str, clean: Source[Batch], steps: Steps, sinks: Sinks) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the tables."""
    flow = Dataflow(name)
    polled = op.input("clean", flow, clean)
    events = op.map("decode", polled, steps.decode)
    write("dead", op.map("unreadable", events, steps.unreadable), sinks.dead)
    write("gold", op.map("count", events, steps.count), sinks.gold)
    return flow


def flow(family_name: str = "web") -> Dataflow:
    """Make the flow of this process from the settings in its environment."""
    family = BY_NAME[family_name]
    process = Process.prepare(registry.counting(family))
    settings, observe, origin = process.settings, process.telemetry.flow, process.origin
    if kernels := settings.kernels == "on":
        warm()
    reader = CleanReader(family, kernels)
    # progress is reported in offsets of the raw topic: those are what clean events carry
    raw = Origin(process.flow.name, settings.topic(f"topic_raw_{family.name}"))
    lanes, raw_topic = process.lanes(), process.raw_topic(family)
    terms = Terms(
        raw.topic,
        partial(lanes.of, raw.topic),
        raw_topic.holds,
        settings.future_tolerance,
        settings.lost_records == "continue",
        process.flow.name,
    )
    windowing = Windowing(settings.allowed_lateness, settings.query_cap, kernels)
    counting = Counting(family, raw, windowing, terms)
    process.telemetry.show(StateView(counting.watermarks, counting.sizes))
    steps = Steps(
        decode=observe.step("decode", lambda batch: counting.admit(reader.read(batch))),
        unreadable=lambda read: encode.dead_letters(unreadable(read.batch, read.refused, origin)),
        count=observe.step("count", counting.count, observe.counted),
    )
    tables = [GOLD[metric.name] for metric in family.metrics]
    sinks = Sinks(
        gold=process.table_sink(*tables, PROGRESS, COUNTED, state=counting, pulled=counting),
        dead=process.dead_letter_sink(),
    )
    clean = process.source(counting)
    process.begin()
    return build(process.flow.name, clean, steps, sinks)
