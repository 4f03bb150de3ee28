"""Run a flow with a mistake in it: `python -m tests.support.mutants MISTAKE FLOW`.

The product has no code for this: the mistake is patched into the flow's process.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from flows.connectors.avro import schemas
from flows.connectors.avro.encode import CleanEncoder
from flows.domain.web import WEB
from flows.runtime import launch


def lose_every_page() -> None:
    schema = schemas.load(WEB.contract).parsed
    original = CleanEncoder._events

    def without_page(body: bytes) -> bytes:
        event = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
        assert isinstance(event, dict)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, event | {"page": None})
        return out.getvalue()

    def events(self: CleanEncoder, cleaned: Any, prefix: bytes) -> tuple[np.ndarray, pa.Array]:
        bodies = pa.array(map(without_page, cleaned.bodies.to_pylist()), pa.binary())
        return original(self, replace(cleaned, bodies=bodies), prefix)

    CleanEncoder._events = events  # type: ignore[method-assign]


def tell_wrong_timestamps() -> None:
    original = CleanEncoder._events

    def events(self: CleanEncoder, cleaned: Any, prefix: bytes) -> tuple[np.ndarray, pa.Array]:
        judged = cleaned.judged
        batch = replace(judged.batch, timestamp=judged.batch.timestamp + 1)
        return original(self, replace(cleaned, judged=replace(judged, batch=batch)), prefix)

    CleanEncoder._events = events  # type: ignore[method-assign]


MISTAKES: dict[str, Callable[[], None]] = {
    "page": lose_every_page,
    "timestamp": tell_wrong_timestamps,
}

if __name__ == "__main__":
    MISTAKES[sys.argv.pop(1)]()
    launch.main()
