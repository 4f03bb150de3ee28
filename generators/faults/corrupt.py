"""Ways to corrupt the bytes of a record, each with the one code that it must get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from generators.answer_key.verdicts import MAX_RECORD_BYTES
from generators.rng import draw_one, stream

Corrupt = Callable[[bytes, bytes, int], bytes | None]  # header, body, roll
# The first fields of a healthy body: event_id is a length byte and 36 characters, then event_type.
# The visitor has 18 characters.
_EVENT_TYPE_AT = 1 + 36
_VISITOR_CHARACTERS = 18
_NOISE = stream(0, "noise")


@dataclass(frozen=True)
class Corruption:
    """A way to corrupt a record; `corrupt` gets header, body and a random number."""

    code: str
    corrupt: Corrupt
    help: str


def _noise(roll: int) -> bytes:
    return draw_one(_NOISE, roll).to_bytes(8, "little")


def _bad_magic(header: bytes, body: bytes, roll: int) -> bytes:
    return (
        b'{"event_id": "42"}',
        b"\xc3\x02" + header[2:] + body,
        b"\x01" + body,
        b"GET / HTTP/1.1\r\n",
    )[roll % 4]


def _unknown_schema(header: bytes, body: bytes, roll: int) -> bytes:
    return (b"\xc3\x01" + _noise(roll) + body, b"\x00\x7f\xff\xff" + _noise(roll)[:1] + body)[
        roll % 2
    ]


def _truncated_header(header: bytes, body: bytes, roll: int) -> bytes:
    return header[: 2 + roll % (len(header) - 2)]


def _truncated_body(header: bytes, body: bytes, roll: int) -> bytes:
    return header + body[: roll % len(body)]


def _trailing_bytes(header: bytes, body: bytes, roll: int) -> bytes:
    return header + body + (_noise(roll)[: 1 + roll % 8], b"\n", b"\0")[roll % 3]


def _bad_utf8(header: bytes, body: bytes, roll: int) -> bytes:
    position = body.index(b"v-") + roll % _VISITOR_CHARACTERS
    wrong = (b"\xff", b"\xc0", b"\x80")[roll % 3]
    return header + body[:position] + wrong + body[position + 1 :]


def _not_avro(header: bytes, body: bytes, roll: int) -> bytes:
    """Break the index of an enum or a union, a string's length, or a varint; the rest stays."""
    union_at = body.index(b"v-") + _VISITOR_CHARACTERS
    return (
        header
        + (
            body[:_EVENT_TYPE_AT] + b"\x28" + body[_EVENT_TYPE_AT + 1 :],
            body[:union_at] + b"\x0c" + body[union_at + 1 :],
            b"\x01" + body[1:],
            b"\xff" * 11 + body,
        )[roll % 4]
    )


CORRUPTIONS: dict[str, Corruption] = {
    "empty_null": Corruption("EMPTY", lambda header, body, roll: None, "a null value"),
    "empty_zero": Corruption("EMPTY", lambda header, body, roll: b"", "a value of no bytes"),
    "bad_magic": Corruption(
        "BAD_MAGIC", _bad_magic, "neither framing: JSON, HTTP, another version"
    ),
    "unknown_schema": Corruption(
        "UNKNOWN_SCHEMA",
        _unknown_schema,
        "a fingerprint or id that nobody published",
    ),
    "truncated_header": Corruption("TRUNCATED", _truncated_header, "ends inside the header"),
    "truncated_body": Corruption("TRUNCATED", _truncated_body, "ends inside the body"),
    "trailing_bytes": Corruption("TRAILING_BYTES", _trailing_bytes, "bytes after the event"),
    "bad_utf8": Corruption("BAD_UTF8", _bad_utf8, "a visitor that is no UTF-8"),
    "not_avro": Corruption(
        "NOT_AVRO", _not_avro, "an index, length or varint that no reader can read"
    ),
    "too_large": Corruption(
        "TOO_LARGE",
        lambda header, body, roll: (
            header + body + b"\0" * (MAX_RECORD_BYTES + 1 - len(header) - len(body) + roll % 99)
        ),
        "one byte over the limit and more",
    ),
}
