"""Name what is wrong with a body that no decoder reads, by the first fault of a walk over it.

Written for its answers, not for speed: only records that were refused come here.
"""

from __future__ import annotations

from typing import Any

from flows.domain.codes import Code


class Fault(Exception):
    """The first thing that is wrong, in the middle of a walk."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


def diagnose(body: bytes, schema: dict[str, Any]) -> Code:
    """Give why the body is no value of the schema.

    NOT_AVRO stands for a fault that a decoder sees and the walk does not.
    """
    return first_fault(body, schema) or Code.NOT_AVRO


def first_fault(body: bytes, schema: dict[str, Any]) -> Code | None:
    """Give what a walk over the body finds wrong first, if anything."""
    try:
        at = _walk(body, 0, schema, {})
    except Fault as fault:
        return fault.code
    return Code.TRAILING_BYTES if at < len(body) else None


# Each function below steps over something that begins at `at`, and gives where it ends; it raises
# Fault. `named` are the types defined so far, which a schema refers to by name.


def _walk(body: bytes, at: int, kind: Any, named: dict[str, Any]) -> int:
    if isinstance(kind, list):
        branch, at = _read_long(body, at)
        return _walk(body, at, kind[_within(branch, len(kind))], named)
    if isinstance(kind, dict):
        if "name" in kind:
            named[kind["name"].rpartition(".")[2]] = kind
        return _walk_complex(body, at, kind, named)
    if (name := kind.rpartition(".")[2]) in named:  # by its full name or without the namespace
        return _walk(body, at, named[name], named)
    if kind in ("string", "bytes"):
        return _text(body, at, kind)
    if kind in ("int", "long"):
        value, at = _read_long(body, at)
        if kind == "int":
            _within(value + 2**31, 2**32)
        return at
    size = {"null": 0, "boolean": 1, "float": 4, "double": 8}[kind]
    return _skip(body, at, size)


def _walk_complex(body: bytes, at: int, kind: dict[str, Any], named: dict[str, Any]) -> int:
    match kind["type"]:
        case "record":
            for field in kind["fields"]:
                at = _walk(body, at, field["type"], named)
            return at
        case "enum":
            index, at = _read_long(body, at)
            _within(index, len(kind["symbols"]))
            return at
        case "array" | "map":
            return _blocks(body, at, kind, named)
        case "fixed":
            return _skip(body, at, kind["size"])
        case inner:
            return _walk(body, at, inner, named)


def _blocks(body: bytes, at: int, kind: dict[str, Any], named: dict[str, Any]) -> int:
    while True:
        count, at = _read_long(body, at)
        if count == 0:
            return at
        if count < 0:  # then the block's size in bytes follows
            count, (_, at) = -count, _read_long(body, at)
        for _ in range(count):
            if at >= len(body):
                raise Fault(Code.TRUNCATED)
            if kind["type"] == "map":
                at = _text(body, at, "string")
            at = _walk(body, at, kind.get("items", kind.get("values")), named)


def _text(body: bytes, at: int, kind: str) -> int:
    length, at = _read_long(body, at)
    if length < 0:
        raise Fault(Code.NOT_AVRO)
    end = _skip(body, at, length)
    if kind == "string":
        try:
            body[at:end].decode()
        except UnicodeDecodeError:
            raise Fault(Code.BAD_UTF8) from None
    return end


def _read_long(body: bytes, at: int) -> tuple[int, int]:
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


def _skip(body: bytes, at: int, size: int) -> int:
    if at + size > len(body):
        raise Fault(Code.TRUNCATED)
    return at + size


def _within(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise Fault(Code.NOT_AVRO)
    return index
