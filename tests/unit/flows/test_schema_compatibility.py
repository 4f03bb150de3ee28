"""Every version of a contract reads every other, both ways: by a checker over the schemas, and by
real bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tests.support.web_events import AVRO, CLEAN, LETTER, NOON, OUTCOME, RULE, event, parsed

NAMES = sorted(p.stem for p in AVRO.glob("*.avsc"))
WIDER = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
PERSONAL = {
    "name",
    "first",
    "last",
    "surname",
    "mail",
    "email",
    "phone",
    "mobile",
    "address",
    "street",
    "zip",
    "postcode",
    "ip",
    "birth",
    "birthday",
    "gender",
    "card",
    "iban",
    "latitude",
    "longitude",
}


def versions(name: str) -> list[Path]:
    return sorted((AVRO / "history").glob(f"{name}.v*.avsc"), key=lambda p: int(p.suffixes[0][2:]))


def load(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema


def type_of(schema: Any) -> str:
    return (
        "union"
        if isinstance(schema, list)
        else schema["type"]
        if isinstance(schema, dict)
        else schema
    )


def problems(writer: Any, reader: Any, at: str = "") -> list[str]:
    """Why a reader schema cannot read what a writer schema wrote, by the rules of Avro's schema
    resolution."""
    if isinstance(writer, list):
        return [p for branch in writer for p in problems(branch, reader, at)]
    if isinstance(reader, list):
        return (
            []
            if any(not problems(writer, branch, at) for branch in reader)
            else [f"{at}: no branch takes {type_of(writer)}"]
        )
    ours, theirs = type_of(writer), type_of(reader)
    if (isinstance(writer, dict) and not isinstance(ours, str)) or (
        isinstance(reader, dict) and not isinstance(theirs, str)
    ):
        return problems(ours, theirs, at)
    if ours != theirs:
        return [] if (ours, theirs) in WIDER else [f"{at}: {ours} is no {theirs}"]
    if ours == "array":
        return problems(writer["items"], reader["items"], f"{at}[]")
    if ours in ("record", "enum") and writer["name"] != reader["name"]:
        return [f"{at}: {writer['name']} is no {reader['name']}"]
    if ours == "enum":
        lost = set(writer["symbols"]) - set(reader["symbols"])
        return [f"{at}: {sorted(lost)} would be lost"] if lost and "default" not in reader else []
    if ours == "record":
        had = {f["name"]: f for f in writer["fields"]}
        return [
            p
            for f in reader["fields"]
            for p in (
                problems(had[f["name"]]["type"], f["type"], f"{at}.{f['name']}")
                if f["name"] in had
                else []
                if "default" in f
                else [f"{at}.{f['name']}: added without a default"]
            )
        ]
    return []


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from nodes(branch)
    elif isinstance(schema, dict):
        yield schema
        for part in (
            schema.get("items"),
            *(f["type"] for f in schema.get("fields", [])),
            schema["type"],
        ):
            yield from nodes(part) if not isinstance(part, str) else ()


def pairs() -> list[tuple[Path, Path]]:
    return [(a, b) for name in NAMES for a in versions(name) for b in versions(name)]


def sample(name: str, version: dict[str, Any]) -> dict[str, Any]:
    """A value of the contract with something in every field that the version has."""
    web = event(customer_id="c", tax_minor=7)
    violation = {"rule": "R", "field": "f", "dimension": "validity", "value": "v"}
    place = {
        "source_partition": 1,
        "source_offset": 2,
        "source_timestamp": NOON,
        "source_incarnation": 512,
    }
    letter = place | {
        "source_topic": "raw.web",
        "source_key": b"k",
        "payload": b"\xff",
        "flow": "clean",
        "code": "LATE",
        "violations": [violation],
        "schema_fingerprint": "00",
        "app_version": "1",
        "attempt": 1,
        "event_type": "PURCHASE",
        "amount_minor": 1_999,
        "amount_currency": "GBP",
    }
    tally = {
        "flow": "clean",
        "source_topic": "raw.web",
        "source_partition": 0,
        "window_start": NOON,
        "source_incarnation": 512,
    }
    numbered = web | place | {"accepted": 3}
    whole = {
        "web_event": web,
        "clean_web_event": numbered,
        "clean_web_batch": {"events": [_as_known_to(version, numbered)]},
        "dead_letter": letter,
        "outcome_tally": tally | {"outcome": "late", "code": "LATE", "records": 3},
        "rule_tally": tally | {"rule": "R", "dimension": "validity", "checked": 3, "broken": 1},
        "offset_tally": tally | {"offsets": 9, "control": 1, "lost": 2, "accepted": 3},
        "loss": tally | {"from_offset": 4, "to_offset": 6, "records": 2, "why": "cut"},
    }[name]
    return {f["name"]: whole[f["name"]] for f in version["fields"]}


def _as_known_to(batch: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    first = batch["fields"][0]["type"]
    known = first["items"]["fields"] if isinstance(first, dict) and "items" in first else ()
    return {f["name"]: event[f["name"]] for f in known}


def short(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize(("writer", "reader"), pairs(), ids=short)
def test_each_version_can_read_each_other(writer: Path, reader: Path) -> None:
    assert problems(load(writer), load(reader)) == []


@pytest.mark.parametrize(("writer", "reader"), pairs(), ids=short)
def test_bytes_of_each_version_are_read_by_each_other(writer: Path, reader: Path) -> None:
    name = writer.name.split(".")[0]
    written = sample(name, load(writer))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed(load(writer)), written)
    out.seek(0)
    read = fastavro.schemaless_reader(out, parsed(load(writer)), parsed(load(reader)))
    assert isinstance(read, dict)
    shared = written.keys() & read.keys()
    for field in shared:
        assert_same_where_both_say(written[field], read[field])
    defaults = {f["name"]: f.get("default") for f in load(reader)["fields"]}
    assert {f: read[f] for f in read.keys() - shared} == {
        f: defaults[f] for f in read.keys() - shared
    }


def assert_same_where_both_say(written: Any, read: Any) -> None:
    """Compare values; of records, the fields that both versions have."""
    if isinstance(written, dict):
        for field in written.keys() & read.keys():
            assert_same_where_both_say(written[field], read[field])
    elif isinstance(written, list):
        assert len(written) == len(read)
        for one, other in zip(written, read, strict=True):
            assert_same_where_both_say(one, other)
    else:
        assert written == read


@pytest.mark.parametrize("name", NAMES)
def test_the_newest_version_is_the_contract(name: str) -> None:
    assert versions(name), "a contract is published before it is used"
    assert load(versions(name)[-1]) == load(AVRO / f"{name}.avsc")


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_numbered_without_a_gap(name: str) -> None:
    assert [int(p.suffixes[0][2:]) for p in versions(name)] == list(
        range(1, len(versions(name)) + 1)
    )


@pytest.mark.parametrize("path", [p for name in NAMES for p in versions(name)], ids=short)
def test_every_enum_falls_back_to_unknown(path: Path) -> None:
    for node in nodes(load(path)):
        if node["type"] == "enum":
            assert (node["default"], node["symbols"][0]) == ("UNKNOWN", "UNKNOWN")


@pytest.mark.parametrize("path", [p for name in NAMES for p in versions(name)], ids=short)
def test_no_field_is_for_personal_data(path: Path) -> None:
    fields = {f["name"] for node in nodes(load(path)) for f in node.get("fields", [])}
    assert {f for f in fields if PERSONAL & set(f.lower().split("_"))} == set()


def test_clean_events_are_web_events_and_where_they_came_from() -> None:
    fields = load(AVRO / "clean_web_event.avsc")["fields"]
    assert fields[:-5] == load(AVRO / "web_event.avsc")["fields"]
    assert [f["name"] for f in fields[-5:]] == [
        "source_partition",
        "source_offset",
        "source_timestamp",
        "source_incarnation",
        "accepted",
    ]
    batch = load(AVRO / "clean_web_batch.avsc")["fields"]
    assert [f["name"] for f in batch] == ["events"]
    assert batch[0]["type"]["items"]["fields"] == fields


def test_the_confluent_ids_name_published_versions() -> None:
    listed = json.loads((AVRO / "confluent_ids.json").read_text())
    assert listed == {str(i + 1): f"history/{p.name}" for i, p in enumerate(versions("web_event"))}


def change(path: str, name: str, **changes: Any) -> dict[str, Any]:
    changed = deepcopy(load(AVRO / path))
    next(f for f in changed["fields"] if f["name"] == name).update(changes)
    return changed


def test_the_checker_finds_what_breaks_readers() -> None:
    good = load(AVRO / "web_event.avsc")
    without = deepcopy(good)
    without["fields"] = [f for f in good["fields"] if f["name"] != "shop_id"]
    assert problems(without, good) == [".shop_id: added without a default"]
    assert problems(good, without) == []
    assert problems(change("web_event.avsc", "visitor_id", type="long"), good) == [
        ".visitor_id: long is no string"
    ]
    assert problems(change("web_event.avsc", "page", type="string"), good) == []
    assert problems(good, change("web_event.avsc", "page", type="string")) == [
        ".page: null is no string"
    ]
    enum = deepcopy(next(f["type"] for f in good["fields"] if f["name"] == "channel"))
    fewer = enum | {"symbols": enum["symbols"][:-1]}
    assert problems(good, change("web_event.avsc", "channel", type=fewer)) == []
    del fewer["default"]
    assert problems(good, change("web_event.avsc", "channel", type=fewer)) == [
        ".channel: ['REFERRAL'] would be lost"
    ]


def test_the_samples_fill_every_field() -> None:
    for version, name in (
        (CLEAN, "clean_web_event"),
        (LETTER, "dead_letter"),
        (OUTCOME, "outcome_tally"),
        (RULE, "rule_tally"),
    ):
        assert version.read(version.frame(sample(name, version.raw))) == sample(name, version.raw)
