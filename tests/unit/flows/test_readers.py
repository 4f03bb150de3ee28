"""Our own topics, read with suspicion: a record that no flow of ours wrote stops nothing, however
well formed it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from flows.connectors.avro import encode
from flows.connectors.avro.readers import CleanReader, DeadLetterReader, ReadRows, tally_reader
from flows.domain.batch import Origin
from flows.domain.checkpoint import Checkpoint
from flows.domain.codes import Code
from flows.domain.counting import CleanEvents, Counting, Windowing
from flows.domain.dead_letters import unreadable
from flows.domain.tables import AnyRows
from flows.domain.web import WEB
from tests.support.batches import batch_of
from tests.support.web_events import CLEAN, CLEAN_BATCH, LETTER, NOON, OUTCOME, RULE, event, item

ORIGIN = Origin("quality", "tallies")
READER = DeadLetterReader(Origin("deadletters", "dead.letters"))
WHERE = {"source_partition": 0, "source_offset": 5, "source_timestamp": NOON}
GOOD_LETTER: dict[str, Any] = WHERE | {
    "source_topic": "raw.web",
    "source_key": b"k",
    "payload": b"\xff",
    "flow": "clean",
    "code": "LATE",
    "violations": [],
    "schema_fingerprint": None,
    "app_version": None,
    "attempt": 1,
}
TALLY = {"flow": "clean", "source_topic": "raw.web", "source_partition": 0, "window_start": NOON}
GOOD_OUTCOME = TALLY | {"outcome": "late", "code": "LATE", "records": 3}
GOOD_RULE = TALLY | {"rule": "R", "dimension": "validity", "checked": 3, "broken": 1}
TIMES = (-(2**63), -(2**62), -62_135_596_800_001, 253_402_300_800_000, 2**62, 2**63 - 1)


def refused(read: CleanEvents | ReadRows) -> list[bytes]:
    """The bytes in the dead letters of what could not be read."""
    records = encode.dead_letters(unreadable(read.batch, read.refused, ORIGIN))
    return [
        LETTER.read(m["value"])["payload"]
        for messages in records.messages.values()
        for m in messages
    ]


def storable(rows: Sequence[AnyRows]) -> list[dict[str, Any]]:
    """The rows as PostgreSQL would take them: no NUL in a text, times that a client can say."""
    cells = [row for part in rows for row in part.frame.iter_rows(named=True)]
    assert not any(isinstance(cell, str) and "\0" in cell for row in cells for cell in row.values())
    return cells


@pytest.mark.parametrize("time", TIMES)
def test_a_letter_of_no_time_is_kept_as_a_letter_about_itself(time: int) -> None:
    value = LETTER.frame(GOOD_LETTER | {"source_timestamp": time})
    (row,) = storable(READER.read(batch_of([value])).rows)
    assert (row["source_topic"], row["payload"]) == ("dead.letters", value)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "A\0"},
        {"app_version": "\0"},
        {"source_topic": "x" * 100_000, "code": "y" * 100_000},
        {"violations": [{"rule": "\0", "field": "", "dimension": "", "value": "\ud7ff\0"}]},
    ],
)
def test_a_letter_with_a_wild_text_is_kept(changes: dict[str, Any]) -> None:
    (row,) = storable(READER.read(batch_of([LETTER.frame(GOOD_LETTER | changes)])).rows)
    assert row["payload"] == b"\xff"


def test_a_letter_whose_key_no_index_takes_is_kept_as_a_letter_about_itself() -> None:
    value = LETTER.frame(GOOD_LETTER | {"source_topic": "𝄞" * 1_000})
    (row,) = storable(READER.read(batch_of([value])).rows)
    assert (row["source_topic"], row["payload"]) == ("dead.letters", value)


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "l\0"}, {"outcome": "long" * 600}, *({"window_start": t} for t in TIMES)],
)
def test_a_tally_that_no_table_takes_is_refused(changes: dict[str, Any]) -> None:
    good, bad = OUTCOME.frame(GOOD_OUTCOME), OUTCOME.frame(GOOD_OUTCOME | changes)
    read = tally_reader().read(batch_of([bad, good]))
    assert len(storable(read.rows)) == 1
    assert refused(read) == [bad]


def test_a_rule_tally_that_no_table_takes_is_refused() -> None:
    good, bad = RULE.frame(GOOD_RULE), RULE.frame(GOOD_RULE | {"rule": "\0"})
    read = tally_reader().read(batch_of([good, bad]))
    assert len(storable(read.rows)) == 1
    assert refused(read) == [bad]


@pytest.mark.parametrize(
    "changes",
    [
        {"shop_id": "a\0"},
        {"country": "\0"},
        {"items": [{"product_id": "\0", "category": "", "quantity": 1, "unit_price_minor": 1}]},
        *({"event_time": t} for t in TIMES),
    ],
)
@pytest.mark.parametrize("form", ["event", "batch"])
def test_a_clean_event_that_clean_never_wrote_is_refused(
    changes: dict[str, Any], form: str
) -> None:
    strange = event() | WHERE | changes
    bad = CLEAN.frame(strange) if form == "event" else CLEAN_BATCH.frame({"events": [strange]})
    good = CLEAN.frame(event() | WHERE | {"source_offset": 6})
    counting = Counting(WEB, Origin("metrics", "raw.web"), Windowing(timedelta(minutes=1), 10))
    counting.restore(0, Checkpoint(0, 0))
    read = CleanReader(WEB).read(batch_of([bad, good]))
    counting.count(read)
    rows = storable(counting.take())
    assert refused(read) == [bad]
    assert {row["events"] for row in rows if "events" in row} == {1}


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": None},
        {"shop_id": "s" * 6_000},
        {"items": [item(product_id="p" * 6_000)]},
        {"items": [item(quantity=2**31 - 1, unit_price_minor=2**62)]},
    ],
    ids=["no currency", "long shop", "long product", "overflow"],
)
def test_an_event_that_no_table_takes_is_refused_alone(changes: dict[str, Any]) -> None:
    events = [event() | WHERE, event(**changes) | WHERE, event("PAGE_VIEW", currency=None) | WHERE]
    batch = batch_of([CLEAN.frame(e) for e in events])
    read = CleanReader(WEB).read(batch)
    assert read.events["row"].to_list() == [0, 2]
    assert [(r.row, r.code) for r in read.refused] == [(1, Code.INVALID)]
