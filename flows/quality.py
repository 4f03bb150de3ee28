"""Quality: store what clean counted, by outcome and by rule.

tallies ─> position ─> decode ─┬─> rows ───────> quality.outcomes_1m, rules_1m, offsets_1m
                               └─> unreadable ─> dead.letters
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
from flows.connectors.avro.readers import ReadRows, tally_reader
from flows.connectors.records import Records, write
from flows.domain.batch import Batch
from flows.domain.checkpoint import Positions
from flows.domain.dead_letters import unreadable
from flows.domain.tables import OFFSETS, OUTCOMES, RULES
from flows.runtime.launch import Process


@dataclass(frozen=True)
class Steps:
    """What the steps of the graph do."""

    position: Callable[[Batch], Batch]
    decode: Callable[[Batch], ReadRows]
    unreadable: Callable[[ReadRows], Records]


@dataclass(frozen=True)
class Sinks:
    """Where the graph ends."""

    tables: Sink[tuple[str, ReadRows]]
    dead: Sink[tuple[str, Records]]


def build(name: str, tallies: Source[Batch], steps: Steps, sinks: Sinks) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the tables."""
    flow = Dataflow(name)
    polled = op.map("position", op.input("tallies", flow, tallies), steps.position)
    rows = op.map("decode", polled, steps.decode)
    write("dead", op.map("unreadable", rows, steps.unreadable), sinks.dead)
    write("tables", rows, sinks.tables)
    return flow


def flow() -> Dataflow:
    """Make the flow of this process from the settings in its environment."""
    process = Process.prepare(registry.QUALITY)
    observe, origin = process.telemetry.flow, process.origin
    positions, reader = Positions(), tally_reader(process.lanes().of)
    steps = Steps(
        position=positions.passed,
        decode=observe.step("decode", reader.read, observe.read),
        unreadable=lambda read: encode.dead_letters(unreadable(read.batch, read.refused, origin)),
    )
    table = process.table_sink(OUTCOMES, RULES, OFFSETS, state=positions)
    sinks = Sinks(table, process.dead_letter_sink())
    tallies = process.source(positions)
    process.begin()
    return build(process.flow.name, tallies, steps, sinks)
