"""Dead letters: store every refused record in a table, with its bytes and all reasons.

    dead.letters ─> position ─> decode ─> quality.dead_letters

A record of the topic that cannot be read as a dead letter becomes a row about itself.
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
from flows.connectors.avro.readers import DeadLetterReader, ReadRows
from flows.connectors.records import write
from flows.domain.batch import Batch
from flows.domain.checkpoint import Positions
from flows.domain.tables import DEAD_LETTERS
from flows.runtime.launch import Process


@dataclass(frozen=True)
class Steps:
    """What the steps of the graph do."""

    position: Callable[[Batch], Batch]
    decode: Callable[[Batch], ReadRows]


def build(
    name: str, dead: Source[Batch], steps: Steps, table: Sink[tuple[str, ReadRows]]
) -> Dataflow:
    """Wire the graph. Delivery: at-least-once, effectively once in the table."""
    flow = Dataflow(name)
    polled = op.map("position", op.input("dead", flow, dead), steps.position)
    write("table", op.map("decode", polled, steps.decode), table)
    return flow


def flow() -> Dataflow:
    """Make the flow of this process from the settings in its environment."""
    process = Process.prepare(registry.DEAD_LETTERS)
    observe = process.telemetry.flow
    positions, reader = Positions(), DeadLetterReader(process.origin, process.lanes().of)
    steps = Steps(positions.passed, observe.step("decode", reader.read, observe.read))
    table = process.table_sink(DEAD_LETTERS, state=positions)
    dead = process.source(positions)
    process.begin()
    return build(process.flow.name, dead, steps, table)
