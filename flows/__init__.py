"""What a flow process imports, and nothing else.

To be read in this order:

1. `avro/` beside this package: the contracts of all events.
2. `domain/`: the core, pure functions and state over batches.
   `batch` (the item that flows) -> `codes`, `rules`, `validate` (what is wrong with an event)
   -> `hashing`, `ids`, `judge` (late? repeated?) -> `tallies`, `checkpoint`, `budget`
   -> `cleaning` (the state of clean, all of these together)
   -> `metrics` (the catalogue), `tables`, `windows` -> `counting` (the state of metrics).
3. The flows: `clean`, `metrics`, `dead_letters`, `quality`, each one graph; `registry` lists them.
4. `connectors/`: the edge. `kafka_source` (the commit at the epoch barrier), `kafka_consumer`,
   `kafka_sink`, `timescale`, `postgres`; `avro/` decodes and encodes; `observers` is what all of
   them report to.
5. `runtime/`: the process around a flow. `launch`, `settings`, `telemetry/`.

Imports point one way: `domain` <- `connectors` <- `runtime` <- the flows
(tests/unit/flows/test_structure.py).
"""
