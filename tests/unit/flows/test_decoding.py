"""From bytes to events: each code by hand, both framings, old and newer writers, and both decoders
in one voice."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import Decoder, WriterSchema, read_one
from flows.connectors.avro.schemas import ConfluentIds
from flows.domain.batch import Batch, Decoded
from flows.domain.codes import Code
from flows.domain.errors import TransientError
from flows.domain.web import WEB
from tests.support import plain_oracle as oracle
from tests.support.batches import batch_of
from tests.support.web_events import (
    NOON,
    V1,
    V2,
    event,
    header,
    item,
    parsed,
    without_logical_types,
)

READER = schemas.load("web_event")
FIELDS = [f["name"] for f in V2.raw["fields"]]
BODY = V2.write(event())
GOOD = V2.header + BODY
MAX = 4_000


def decoder(ids: ConfluentIds | None = None) -> Decoder:
    return Decoder(WEB, ids or ConfluentIds(None), MAX)


def decode(*values: bytes | None) -> Decoded:
    return decoder().decode(batch_of(values))


def events_of(decoded: Decoded) -> dict[int, dict[str, Any]]:
    """Row -> event, event times as numbers."""
    plain = decoded.events.with_columns(pl.col("event_time").to_physical())
    return {row["row"]: {f: row[f] for f in FIELDS} for row in plain.iter_rows(named=True)}


def code_of(value: bytes | None) -> Code | None:
    decoded = decode(value)
    assert len(decoded.events) + len(decoded.refused) == 1
    return decoded.refused[0][1] if decoded.refused else None


def with_length_of_id(length: bytes) -> bytes:
    assert BODY[0] == 72  # 36 characters, zig-zag
    return V2.header + length + BODY[1:]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (Code.EMPTY, None),
        (Code.EMPTY, b""),
        (Code.TOO_LARGE, GOOD + b"x" * MAX),
        (Code.TOO_LARGE, b"?" * (MAX + 1)),
        (Code.BAD_MAGIC, b"{}"),
        (Code.BAD_MAGIC, b"\xc3\x02" + GOOD[2:]),
        (Code.BAD_MAGIC, b"\x01\x00\x00\x00\x02" + BODY),
        (Code.TRUNCATED, b"\xc3"),
        (Code.TRUNCATED, b"\xc3\x01"),
        (Code.TRUNCATED, GOOD[:9]),
        (Code.TRUNCATED, GOOD[:10]),
        (Code.TRUNCATED, GOOD[:-1]),
        (Code.TRUNCATED, b"\x00"),
        (Code.TRUNCATED, b"\x00\x00\x00\x00"),
        (Code.TRUNCATED, b"\x00\x00\x00\x00\x02"),
        (Code.TRUNCATED, with_length_of_id(b"\xfe\xff\xff\xff\x0f")),  # 2 GiB of text announced
        (Code.UNKNOWN_SCHEMA, b"\xc3\x01" + b"\0" * 8 + BODY),
        (Code.UNKNOWN_SCHEMA, b"\x00\x00\x00\x00\x63" + BODY),
        (Code.BAD_UTF8, GOOD[:11] + b"\xff" + GOOD[12:]),
        (Code.BAD_UTF8, GOOD[:11] + b"\xed\xa0\x80" + GOOD[14:]),  # half of a surrogate pair
        (Code.BAD_UTF8, GOOD[:11] + b"\xc0\x80" + GOOD[13:]),  # a NUL in two bytes
        (Code.TRAILING_BYTES, GOOD + b"\0"),
        (Code.TRAILING_BYTES, GOOD + GOOD),
        (Code.NOT_AVRO, with_length_of_id(b"\x01")),  # a length of -1
        (Code.NOT_AVRO, GOOD[:47] + b"\x10" + GOOD[48:]),  # event type 8 of 0..7
        (Code.NOT_AVRO, GOOD[:47] + b"\x01" + GOOD[48:]),  # event type -1
        (Code.NOT_AVRO, V2.header + b"\xff" * 10 + b"\x01" + BODY[1:]),  # a varint of 11 bytes
    ],
)
def test_each_unreadable_record_has_its_code(code: Code, value: bytes | None) -> None:
    assert code_of(value) == code


def test_a_union_index_out_of_range_is_not_avro() -> None:
    body = bytearray(V2.write(event(customer_id=None)))
    at = body.index(b"\x12visitor-1") + 10
    assert body[at] == 0  # customer_id: null
    body[at] = 4
    assert code_of(V2.header + bytes(body)) == Code.NOT_AVRO


@pytest.mark.parametrize(
    "value", [GOOD, V1.frame(event()), V2.confluent(event(), 2), V1.confluent(event(), 1)]
)
def test_both_framings_and_both_versions_are_read(value: bytes) -> None:
    expected = event() if value.startswith((V2.header, b"\0\0\0\0\2")) else event(app_version=None)
    assert events_of(decode(value)) == {0: expected}


def test_the_largest_record_allowed_is_read() -> None:
    filler = MAX - len(V2.frame(event(page="")))
    value = V2.frame(event(page="x" * (filler - 1)))  # its length takes a byte more
    assert len(value) == MAX
    assert code_of(value) is None
    assert code_of(V2.frame(event(page="x" * filler))) == Code.TOO_LARGE


def test_each_event_bears_its_fingerprint_and_its_bytes_in_our_schema() -> None:
    decoded = decode(V1.frame(event()), V2.confluent(event(), 2))
    assert decoded.events["fingerprint"].to_list() == [V1.header[2:].hex(), V2.header[2:].hex()]
    assert decoded.bodies.to_pylist() == [V2.write(event(app_version=None)), BODY]


def test_good_records_among_bad_ones_keep_their_places() -> None:
    values = [GOOD if i % 5 else GOOD[:-2] if i % 2 else b"junk" for i in range(300)]
    decoded = decode(*values)
    assert decoded.events["row"].to_list() == [i for i in range(300) if i % 5]
    assert [(row, code) for row, code, _ in decoded.refused] == [
        (i, Code.TRUNCATED if i % 2 else Code.BAD_MAGIC) for i in range(0, 300, 5)
    ]


def test_blocks_with_a_byte_count_are_read_like_plain_ones() -> None:
    written = event(items=[item(), item(product_id="p-2")])
    plain, empty = V2.write(written), V2.write(written | {"items": []})
    start = next(i for i in range(len(empty)) if plain[i] != empty[i])
    ends = len(plain) - (len(empty) - start - 1)
    items = plain[start + 1 : ends - 1]
    sized = plain[:start] + b"\x03" + bytes([len(items) << 1]) + items + plain[ends - 1 :]
    assert len(items) < 64
    decoded = decode(V2.header + sized)
    assert events_of(decoded) == {0: written}
    assert decoded.bodies.to_pylist() == [plain]


def newer_schema(kind: Any = ("null", "string")) -> dict[str, Any]:
    """A writer of tomorrow: one more event type, one more field."""
    newer = deepcopy(V2.raw)
    fields = {f["name"]: f for f in newer["fields"]}
    fields["event_type"]["type"]["symbols"].append("WISHLIST")
    newer["fields"].insert(
        3, {"name": "campaign", "type": list(kind) if isinstance(kind, tuple) else kind}
    )
    return newer


# what a newer writer may add: (type, value)
NEWER_FIELDS = {
    "text": (("null", "string"), "spring"),
    "boolean": ("boolean", True),
    "double": ("double", 0.5),
    "float": ("float", 0.5),
    "bytes": ("bytes", b"\xff"),
    "uuid": ({"type": "string", "logicalType": "uuid"}, "00000000-0000-0000-0000-000000000001"),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x01"),
    "date": ({"type": "int", "logicalType": "date"}, 20_000),
    "micros": ({"type": "long", "logicalType": "timestamp-micros"}, 2**62),
    "fixed": ({"type": "fixed", "name": "Ip", "size": 4}, b"1234"),
    "map": ({"type": "map", "values": "long"}, {"a": 1, "b": 2}),
    "array": ({"type": "array", "items": ["null", "string"]}, [None, "a"]),
    "record": (
        {"type": "record", "name": "Place", "fields": [{"name": "hall", "type": "string"}]},
        {"hall": "b"},
    ),
    "union of three": (("null", "string", "long"), 7),
    "union of one": (("string",), "x"),
    "enum": ({"type": "enum", "name": "Mood", "symbols": ["A", "B"]}, "B"),
    "null": ("null", None),
    "nullable record": (
        ("null", {"type": "record", "name": "P", "fields": [{"name": "h", "type": "int"}]}),
        {"h": 3},
    ),
}


def record(field: Any) -> dict[str, Any]:
    return {"type": "record", "name": "WebEvent", "fields": [{"name": "next", "type": field}]}


NOTHING = {"type": "record", "name": "Nothing", "fields": []}
UNBOUNDED = (
    record(["null", "WebEvent"]),
    record({"type": "array", "items": "null"}),
    record({"type": "array", "items": NOTHING}),
    record({"type": "map", "values": "WebEvent"}),
)


class Registry:
    """A schema registry that knows three ids: a newer writer's, one that is no record, and one that
    fails."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        other = {"type": "record", "name": "Order", "fields": [{"name": "total", "type": "long"}]}
        answers = (
            {
                f"/schemas/ids/{100 + i}": (
                    200,
                    json.dumps({"schema": json.dumps(newer_schema(kind))}),
                )
                for i, (kind, _) in enumerate(NEWER_FIELDS.values())
            }
            | {
                "/schemas/ids/6": (200, json.dumps({"schema": json.dumps(other)})),
                "/schemas/ids/7": (200, json.dumps({"schema": json.dumps(newer_schema())})),
                "/schemas/ids/8": (200, json.dumps({"schema": '"string"'})),
                "/schemas/ids/9": (503, "{}"),
            }
            | {
                f"/schemas/ids/{200 + i}": (200, json.dumps({"schema": json.dumps(schema)}))
                for i, schema in enumerate(UNBOUNDED)
            }
        )
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                status, text = answers.get(self.path, (404, '{"error_code": 40403}'))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    running = Registry()
    yield running
    running.stop()


def framed(number: int, body: bytes = BODY) -> Batch:
    return batch_of([b"\0" + number.to_bytes(4, "big") + body])


def newer_body(kind: Any = ("null", "string"), **changes: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, parsed(newer_schema(kind)), event() | {"campaign": "spring"} | changes
    )
    return out.getvalue()


def test_a_newer_writer_is_read_by_its_registered_schema(registry: Registry) -> None:
    decoded = decoder(ConfluentIds(registry.url)).decode(framed(7, newer_body()))
    assert events_of(decoded) == {0: event()}
    assert decoded.events["newer_writer"].to_list() == [True]
    assert decoded.events["fingerprint"].to_list() == [header(newer_schema())[2:].hex()]
    assert decoded.bodies.to_pylist() == [BODY]


def test_an_event_type_that_only_a_newer_writer_knows_is_unknown_not_broken(
    registry: Registry,
) -> None:
    decoded = decoder(ConfluentIds(registry.url)).decode(
        framed(7, newer_body(event_type="WISHLIST"))
    )
    assert events_of(decoded) == {0: event(event_type="UNKNOWN")}
    assert decoded.events["newer_writer"].to_list() == [True]


@pytest.mark.parametrize("number", range(200, 200 + len(UNBOUNDED)))
def test_a_registered_schema_by_which_few_bytes_are_a_value_without_bound_is_none_of_ours(
    registry: Registry, number: int
) -> None:
    deep = b"\x02" * 3_000 + b"\0"
    refused = decoder(ConfluentIds(registry.url)).decode(framed(number, deep)).refused
    assert [code for _, code, _ in refused] == [Code.UNKNOWN_SCHEMA]


@pytest.mark.parametrize(("seconds", "requests"), [(0, 3), (60, 1)])
def test_an_id_that_the_registry_does_not_know_is_asked_again_later(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, seconds: int, requests: int
) -> None:
    monkeypatch.setattr(schemas, "UNKNOWN_SECONDS", seconds)
    reading = decoder(ConfluentIds(registry.url))
    for _ in range(3):
        assert [code for _, code, _ in reading.decode(framed(99)).refused] == [Code.UNKNOWN_SCHEMA]
    assert registry.requests == ["/schemas/ids/99"] * requests


def test_a_known_id_is_asked_for_once(registry: Registry) -> None:
    reading = decoder(ConfluentIds(registry.url))
    for _ in range(3):
        reading.decode(framed(7, newer_body()))
    assert registry.requests == ["/schemas/ids/7"]


@pytest.mark.parametrize("what", NEWER_FIELDS)
def test_whatever_a_newer_writer_adds_the_rest_is_read(registry: Registry, what: str) -> None:
    kind, value = NEWER_FIELDS[what]
    number = 100 + list(NEWER_FIELDS).index(what)
    decoded = decoder(ConfluentIds(registry.url)).decode(
        framed(number, newer_body(kind, campaign=value))
    )
    assert events_of(decoded) == {0: event()}


@pytest.mark.parametrize(("number", "code"), [(6, Code.NOT_AVRO), (8, Code.UNKNOWN_SCHEMA)])
def test_a_schema_of_something_else_reads_nothing(
    registry: Registry, number: int, code: Code
) -> None:
    refused = decoder(ConfluentIds(registry.url)).decode(framed(number, b"\x02")).refused
    assert [code for _, code, _ in refused] == [code]


def test_a_registry_in_trouble_refuses_no_record(registry: Registry) -> None:
    with pytest.raises(TransientError, match="503"):
        decoder(ConfluentIds(registry.url)).decode(framed(9))


def test_a_registry_that_is_down_refuses_no_record() -> None:
    gone = Registry()
    gone.stop()
    with pytest.raises(TransientError, match="does not answer"):
        decoder(ConfluentIds(gone.url)).decode(framed(7))


LONGS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, NOON, -1, 2**31, 2**62])
INTS = st.integers(-(2**31), 2**31 - 1)
TEXTS = st.text(max_size=12) | st.sampled_from(["", "\0", "é", "𝄞", "‮"])
MAYBE = {"text": st.none() | TEXTS, "long": st.none() | LONGS}
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"product_id": TEXTS, "category": TEXTS, "quantity": INTS, "unit_price_minor": LONGS}
    ),
    max_size=5,
)
SYMBOLS = {
    f["name"]: f["type"]["symbols"]
    for f in V2.raw["fields"]
    if isinstance(f["type"], dict) and "symbols" in f["type"]
}
EVENTS = st.fixed_dictionaries(
    {
        "event_id": TEXTS,
        "event_time": LONGS,
        "visitor_id": TEXTS,
        "shop_id": TEXTS,
        "country": TEXTS,
        "search_results": st.none() | INTS,
    }
    | {
        name: MAYBE["text"]
        for name in ("customer_id", "page", "search_query", "order_id", "currency", "app_version")
    }
    | {name: MAYBE["long"] for name in ("discount_minor", "tax_minor", "shipping_minor")}
    | {name: st.sampled_from(symbols) for name, symbols in SYMBOLS.items()}
    | {"items": ITEMS | st.integers(0, 40).map(lambda n: [item(quantity=i) for i in range(n)])}
)
WRITER = WriterSchema.of(schemas.published("web_event")[1], READER)
LAWS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@LAWS
@given(st.lists(EVENTS, min_size=1, max_size=5))
def test_both_decoders_read_what_plain_avro_wrote(events: list[dict[str, Any]]) -> None:
    decoded = decode(*(V2.frame(e) for e in events))
    assert events_of(decoded) == {i: e for i, e in enumerate(events) if len(V2.frame(e)) <= MAX}
    assert [read_one(V2.write(e), WRITER) for e in events] == events


@LAWS
@given(
    EVENTS,
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 40),
)
def test_both_decoders_give_one_verdict_on_changed_bytes(
    good: dict[str, Any], flips: list[tuple[int, int]], cut: int
) -> None:
    body = bytearray(V2.write(good))
    for at, byte in flips:
        body[at % len(body)] = byte
    value = bytes(body[: len(body) - cut % len(body)])
    slow = read_one(value, WRITER)
    decoded = decode(*[GOOD] * 70, V2.header + value)
    if isinstance(slow, Code):
        assert [(row, code) for row, code, _ in decoded.refused] == [(70, slow)]
    else:
        assert decoded.refused == []
        assert events_of(decoded)[70] == slow
        assert without_logical_types(slow) == oracle.read(V2.header + value, MAX)
