"""Our own topics, read with suspicion: a record that no flow of ours wrote stops nothing, however
well formed it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.connectors.avro.readers import CleanReader, DeadLetterReader, TallyReader
from flows.connectors.kafka_sink import Records
from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.counting import Counting
from flows.domain.tables import Rows
from tests.support.web_events import CLEAN, CLEAN_BATCH, LETTER, NOON, OUTCOME, RULE, event

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


def batch_of(*values: bytes) -> Batch:
    count = len(values)
    return Batch(
        np.zeros(count, np.int32),
        np.arange(count, dtype=np.int64),
        np.full(count, NOON, np.int64),
        pa.array([None] * count, pa.binary()),
        pa.array(values, pa.binary()),
        True,
    )


def refused(records: Records) -> list[bytes]:
    return [
        LETTER.read(m["value"])["payload"]
        for messages in records.messages.values()
        for m in messages
    ]


def storable(rows: list[Rows]) -> list[dict[str, Any]]:
    """The rows as PostgreSQL would take them: no NUL in a text, times that a client can say."""
    cells = [row for part in rows for row in part.frame.iter_rows(named=True)]
    assert not any(isinstance(cell, str) and "\0" in cell for row in cells for cell in row.values())
    return cells


@pytest.mark.parametrize("time", TIMES)
def test_a_letter_of_no_time_is_kept_as_a_letter_about_itself(time: int) -> None:
    value = LETTER.frame(GOOD_LETTER | {"source_timestamp": time})
    (row,) = storable(DeadLetterReader("dead.letters").read(batch_of(value)).take())
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
    (row,) = storable(
        DeadLetterReader("dead.letters").read(batch_of(LETTER.frame(GOOD_LETTER | changes))).take()
    )
    assert row["payload"] == b"\xff"


def test_a_letter_whose_key_no_index_takes_is_kept_as_a_letter_about_itself() -> None:
    value = LETTER.frame(GOOD_LETTER | {"source_topic": "𝄞" * 1_000})
    (row,) = storable(DeadLetterReader("dead.letters").read(batch_of(value)).take())
    assert (row["source_topic"], row["payload"]) == ("dead.letters", value)


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "l\0"}, {"outcome": "long" * 600}, *({"window_start": t} for t in TIMES)],
)
def test_a_tally_that_no_table_takes_is_refused(changes: dict[str, Any]) -> None:
    good, bad = OUTCOME.frame(GOOD_OUTCOME), OUTCOME.frame(GOOD_OUTCOME | changes)
    reader = TallyReader("tallies", "quality").read(batch_of(bad, good))
    assert len(storable(reader.take())) == 1
    assert refused(reader.unreadable(reader)) == [bad]


def test_a_rule_tally_that_no_table_takes_is_refused() -> None:
    good, bad = RULE.frame(GOOD_RULE), RULE.frame(GOOD_RULE | {"rule": "\0"})
    reader = TallyReader("tallies", "quality").read(batch_of(good, bad))
    assert len(storable(reader.take())) == 1
    assert refused(reader.unreadable(reader)) == [bad]


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
    reader, counting = (
        CleanReader("clean.web", "metrics"),
        Counting("raw.web", timedelta(minutes=1), 10),
    )
    counting.restore(0, Checkpoint(0, 0))
    rows = storable(counting.count(reader.read(batch_of(bad, good))).take())
    assert refused(reader.unreadable(None)) == [bad]  # type: ignore[arg-type]  # unread
    assert {row["events"] for row in rows if "events" in row} == {1}
