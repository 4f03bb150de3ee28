"""Name what is wrong with a body that no decoder reads: walk it field by field and report the first
fault.
"""

from __future__ import annotations

from typing import Any

from flows.domain.codes import Code


class Fault(Exception):
    """The first thing that is wrong."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


def diagnose(body: bytes, schema: dict[str, Any]) -> Code:
    """Why the body is no value of the schema; NOT_AVRO where the walk finds no fault but a decoder
    did.
    """
    return first_fault(body, schema) or Code.NOT_AVRO


def first_fault(body: bytes, schema: dict[str, Any]) -> Code | None:
    """What a walk over the body finds wrong first, if anything."""
    try:
        at = walk(body, 0, schema, {})
    except Fault as fault:
        return fault.code
    return Code.TRAILING_BYTES if at < len(body) else None


def walk(body: bytes, at: int, kind: Any, named: dict[str, Any]) -> int:
    """Step over one value and give where it ends. Errors: Fault."""
    if isinstance(kind, list):
        branch, at = read_long(body, at)
        return walk(body, at, kind[within(branch, len(kind))], named)
    if isinstance(kind, dict):
        if "name" in kind:
            named[kind["name"].rpartition(".")[2]] = kind
        return walk_complex(body, at, kind, named)
    if (name := kind.rpartition(".")[2]) in named:  # by its full name or without the namespace
        return walk(body, at, named[name], named)
    if kind in ("string", "bytes"):
        return text(body, at, kind)
    if kind in ("int", "long"):
        value, at = read_long(body, at)
        if kind == "int":
            within(value + 2**31, 2**32)
        return at
    size = {"null": 0, "boolean": 1, "float": 4, "double": 8}[kind]
    return skip(body, at, size)


def walk_complex(body: bytes, at: int, kind: dict[str, Any], named: dict[str, Any]) -> int:
    match kind["type"]:
        case "record":
            for field in kind["fields"]:
                at = walk(body, at, field["type"], named)
            return at
        case "enum":
            index, at = read_long(body, at)
            within(index, len(kind["symbols"]))
            return at
        case "array" | "map":
            return blocks(body, at, kind, named)
        case "fixed":
            return skip(body, at, kind["size"])
        case inner:
            return walk(body, at, inner, named)


def blocks(body: bytes, at: int, kind: dict[str, Any], named: dict[str, Any]) -> int:
    while True:
        count, at = read_long(body, at)
        if count == 0:
            return at
        if count < 0:  # then the block's size in bytes follows
            count, (_, at) = -count, read_long(body, at)
        for _ in range(count):
            if at >= len(body):
                raise Fault(Code.TRUNCATED)
            if kind["type"] == "map":
                at = text(body, at, "string")
            at = walk(body, at, kind.get("items", kind.get("values")), named)


def text(body: bytes, at: int, kind: str) -> int:
    length, at = read_long(body, at)
    if length < 0:
        raise Fault(Code.NOT_AVRO)
    end = skip(body, at, length)
    if kind == "string":
        try:
            body[at:end].decode()
        except UnicodeDecodeError:
            raise Fault(Code.BAD_UTF8) from None
    return end


def read_long(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(body):
            raise Fault(Code.TRUNCATED)
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:  # ten bytes hold any long
            raise Fault(Code.NOT_AVRO)


def skip(body: bytes, at: int, size: int) -> int:
    if at + size > len(body):
        raise Fault(Code.TRUNCATED)
    return at + size


def within(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise Fault(Code.NOT_AVRO)
    return index
