"""Versions of the contract, from a registry over HTTP that learns, errs and goes away."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import fastavro

from flows.connectors.avro.contracts import FOLDER
from flows.connectors.avro.schemas import UNKNOWN_SECONDS
from shopstream.drills import records, steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.records import Raw
from shopstream.drills.stage import Stage, expect

EACH = 20
V1, V2, V3, RECURSIVE, BOMB, JSON, LATER = 1, 2, 3, 4, 5, 6, 9
AWAY_SECONDS = 8


def schema(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Send v1, v2, what is none of ours, and a version that becomes known later.

    The second opinion knows the versions 1 and 2; behind it the numbers are told by hand.
    """
    with registry() as (known, url, outage):
        stage.environment["SCHEMA_REGISTRY_URL"] = url
        stage.start_all()
        good = [*_events(V1, seed, 1), *_events(V2, seed, 2)]
        stage.produce(good)
        strange = [*_events(V3, seed, 3), *_strange()]
        stage.produce(strange)
        unknown = _events(LATER, seed, 4)
        stage.produce(unknown)
        proof = stage.prove(ledger=None)
        _expect(stage, len(good), len(strange) + len(unknown))
        codes = _codes(stage)
        expect(codes["UNKNOWN_SCHEMA"] >= len(unknown), f"codes: {codes}")

        known[LATER] = known[V2]
        time.sleep(UNKNOWN_SECONDS)  # so long it is not asked for again
        stage.produce(_events(LATER, seed, 5))
        outage.begin()
        known[LATER + 1] = known[V2]
        stage.produce(_events(LATER + 1, seed, 6))
        steps.tend_for(stage, AWAY_SECONDS)
        outage.end()
        stage.drain()
        _expect(stage, len(good) + 2 * EACH, len(strange) + len(unknown))
        proof.append(steps.no_residue(stage))
    restarts = {name: actor.restarts for name, actor in stage.actors.items()}
    return {"codes": codes, "restarts": restarts, "proof": proof}


def _expect(stage: Stage, accepted: int, refused: int) -> None:
    numbers = steps.counted(stage), steps.letters(stage)
    wanted = accepted, refused
    expect(numbers == wanted, f"{numbers} events and letters, not {wanted}: {_codes(stage)}")


def _codes(stage: Stage) -> dict[str, int]:
    return dict(stage.query("SELECT code, count(*)::int FROM quality.dead_letters GROUP BY 1"))


def _events(version: int, seed: int, part: int) -> list[Raw]:
    """Make events as the version with a Confluent id has them."""
    text = _schemas().get(version, _schemas()[V2])
    writer = fastavro.parse_schema(json.loads(text), named_schemas={})
    made: list[Raw] = []
    for i in range(EACH):
        event = records.view((seed * 16 + part) * 2**20 + i, f"v{part}", records.now_ms())
        if version == V3:
            event["event_time"] = "yesterday"
        body = io.BytesIO()
        fastavro.schemaless_writer(body, writer, event)
        made.append((f"v{part}".encode(), confluent(version, body.getvalue())))
    return made


def _strange() -> list[Raw]:
    """Make bodies that a hostile schema reads for ever, or into memory that nobody has."""
    deep = b"\x02" * 100_000 + b"\x00"
    # a block that claims 2^40 items of no bytes
    bomb = b"\x80\x80\x80\x80\x80\x80\x02\x00"
    return [
        (b"x", confluent(n, body)) for n, body in ((RECURSIVE, deep), (BOMB, bomb), (JSON, b"{}"))
    ]


def confluent(number: int, body: bytes) -> bytes:
    """Frame a body as Confluent's clients do."""
    return b"\x00" + number.to_bytes(4, "big") + body


def _schemas() -> dict[int, str]:
    v1, v2 = ((FOLDER / "history" / f"web_event.v{version}.avsc").read_text() for version in (1, 2))
    incompatible = json.loads(v2)
    incompatible["fields"] = [
        {"name": "event_time", "type": "string"} if f["name"] == "event_time" else f
        for f in incompatible["fields"]
        if f["name"] != "visitor_id"
    ]
    name = incompatible["name"]
    recursive = {
        "type": "record",
        "name": name,
        "fields": [{"name": "next", "type": ["null", name]}],
    }
    items = {"type": "array", "items": "null"}
    bomb = {"type": "record", "name": name, "fields": [{"name": "items", "type": items}]}
    return {
        V1: v1,
        V2: v2,
        V3: json.dumps(incompatible),
        RECURSIVE: json.dumps(recursive),
        BOMB: json.dumps(bomb),
        JSON: json.dumps({"type": "object", "properties": {}}),
    }


class Outage:
    """Whether the registry fails.

    State: it does while `now`.
    """

    now = False

    def begin(self) -> None:
        """Answer every question with an error of the server."""
        self.now = True

    def end(self) -> None:
        """Answer again."""
        self.now = False


@contextmanager
def registry() -> Iterator[tuple[dict[int, str], str, Outage]]:
    """Serve schemas by id; gives what it knows, which can grow, and where it is."""
    known, outage = _schemas(), Outage()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(self.path.rpartition("/")[2])
            code = 503 if outage.now else 200 if number in known else 404
            body = json.dumps({"schema": known.get(number, "")}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known, f"http://127.0.0.1:{server.server_port}", outage
    finally:
        server.shutdown()
        server.server_close()
