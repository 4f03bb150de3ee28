"""What a flow process imports, and nothing else.

To be read in this order:

1. `avro/` beside this package: the contracts of all events.
2. `domain/`: the core, pure functions and state over batches.
   `batch` (the item that flows), `codes`, `family` (what sets one kind of event apart; `families`
   lists them, `web/` is the first one)
   -> `rules`, `validate` (what is wrong with an event)
   -> `hashing`, `ids`, `judge` (is it late, is it repeated)
   -> `tallies`, `checkpoint`, `budget` -> `cleaning` (the state of clean: all of these together)
   -> `metrics`, `tables`, `windows` -> `counting` (the state of metrics).
3. The flows: `clean`, `metrics`, `dead_letters`, `quality`, each one graph; `registry` lists them.
4. `connectors/`: the edge. `avro/` decodes and encodes; `kafka_source` commits at the epoch
   barrier, `kafka_consumer` finds where a group begins; `records` and `kafka_sink`, `timescale`
   and `postgres` write; `observers` is what all of them report to.
5. `runtime/`: the process around a flow. `launch`, `settings`, `telemetry/`.

Imports point one way: `domain` <- `connectors` <- `runtime` <- the flows
(tests/unit/flows/test_structure.py).
"""
