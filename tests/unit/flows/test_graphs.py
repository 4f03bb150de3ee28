"""The graph of each flow, run by Bytewax from a list of batches into lists.

Each edge carries what the picture in the flow's file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from flows import clean, dead_letters, metrics, quality
from flows.connectors.avro import encode
from flows.connectors.avro.decode import Decoder
from flows.connectors.avro.encode import CleanEncoder, TallyRecords
from flows.connectors.avro.readers import CleanReader, DeadLetterReader, ReadRows, tally_reader
from flows.connectors.avro.schemas import ConfluentIds
from flows.connectors.records import AnyRecords, Records
from flows.domain.batch import Origin
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint, Positions
from flows.domain.cleaning import Cleaned, Cleaning
from flows.domain.counting import Counted, Counting, Windowing
from flows.domain.dead_letters import RefusedEvents, unreadable
from flows.domain.judge import Limits
from flows.domain.web import WEB
from tests.support.batches import batch_of
from tests.support.web_events import CLEAN, LETTER, NOON, OUTCOME, V2, event, uuid

RAW, MINUTE = Origin("clean", "raw.web"), timedelta(minutes=1)


def run(flow: Dataflow) -> None:
    run_main(flow)  # type: ignore[no-untyped-call]  # Bytewax does not annotate it


def values(records: Sequence[AnyRecords]) -> list[bytes]:
    return [m["value"] for r in records for messages in r.messages.values() for m in messages]


def items(received: Sequence[tuple[str, Any]], step: str) -> list[Any]:
    """What a sink received, which Bytewax wants keyed."""
    assert {key for key, _ in received} <= {step}
    return [item for _, item in received]


def test_clean_gives_what_it_accepts_and_what_it_refuses_as_records() -> None:
    cleaning = Cleaning(WEB, Limits(MINUTE, MINUTE), RejectBudget(2.0, 10))
    cleaning.restore(0, Checkpoint(0, 0))
    refused = RefusedEvents(WEB, RAW)
    good = [V2.frame(event(event_id=uuid(i))) for i in range(3)]
    to_clean: list[tuple[str, AnyRecords]] = []
    to_dead: list[tuple[str, Records]] = []
    to_tallies: list[tuple[str, Cleaned]] = []
    flow = clean.build(
        "clean",
        TestingSource([batch_of([*good, b"junk"], 0), batch_of([good[0], b""], 4)]),
        clean.Steps(
            Decoder(WEB, ConfluentIds(None), 1_000).decode,
            cleaning.clean,
            CleanEncoder(WEB).one_event_per_record,
            lambda cleaned: encode.dead_letters(refused.dead_letters(cleaned)),
        ),
        clean.Sinks(TestingSink(to_clean), TestingSink(to_dead), TestingSink(to_tallies)),
    )
    run(flow)
    accepted = [CLEAN.read(value) for value in values(items(to_clean, "clean"))]
    letters = [LETTER.read(value) for value in values(items(to_dead, "dead"))]
    assert [(e["event_id"], e["source_offset"]) for e in accepted] == [
        (uuid(i), i) for i in range(3)
    ]
    assert [(x["source_offset"], x["code"]) for x in letters] == [(3, "BAD_MAGIC"), (5, "EMPTY")]
    # the edge to the tallies carries the judged batches; the counts themselves are pulled
    assert [len(c.judged.batch) for c in items(to_tallies, "tallies")] == [4, 2]
    tallies = values([TallyRecords(cleaning.tallies, RAW).take()])
    outcomes = [OUTCOME.read(v) for v in tallies if v.startswith(OUTCOME.header)]
    assert {o["code"] or o["outcome"]: o["records"] for o in outcomes} == {
        "accepted": 3,
        "duplicate": 1,
        "BAD_MAGIC": 1,
        "EMPTY": 1,
    }


def test_metrics_says_what_it_counted_and_rows_are_pulled() -> None:
    counting = Counting(WEB, Origin("metrics", "raw.web"), Windowing(MINUTE, 10))
    counting.restore(0, Checkpoint(0, 0))
    origin = Origin("metrics", "clean.web")
    source = {"source_partition": 0, "source_timestamp": NOON}
    good = [CLEAN.frame(event(event_id=uuid(i)) | source | {"source_offset": i}) for i in (0, 1, 1)]
    to_gold: list[tuple[str, Counted]] = []
    to_dead: list[tuple[str, Records]] = []
    flow = metrics.build(
        "metrics",
        TestingSource([batch_of([*good, b"junk"])]),
        metrics.Steps(
            CleanReader(WEB).read,
            lambda e: encode.dead_letters(unreadable(e.batch, e.refused, origin)),
            counting.count,
        ),
        metrics.Sinks(TestingSink(to_gold), TestingSink(to_dead)),
    )
    run(flow)
    (counted,) = items(to_gold, "gold")
    assert (len(counted.timestamps), counted.repeated, list(counted.rows)) == (2, 1, [])
    letters = [LETTER.read(value) for value in values(items(to_dead, "dead"))]
    assert [(x["flow"], x["source_topic"], x["payload"]) for x in letters] == [
        ("metrics", "clean.web", b"junk")
    ]
    rows = {part.table.name: part.frame for part in counting.take()}
    assert rows["gold.traffic_1m_by_partition"]["events"].sum() == 2
    assert rows["ops.progress"]["source_offset"].to_list() == [1]


def test_dead_letters_are_rows_on_the_edge() -> None:
    letter = {
        "source_topic": "raw.web",
        "source_partition": 0,
        "source_offset": 7,
        "source_timestamp": NOON,
        "source_key": None,
        "payload": b"\xff",
        "flow": "clean",
        "code": "NOT_AVRO",
        "violations": [],
        "schema_fingerprint": None,
        "app_version": None,
        "attempt": 1,
    }
    positions, to_table = Positions(), list[tuple[str, ReadRows]]()
    flow = dead_letters.build(
        "deadletters",
        TestingSource([batch_of([LETTER.frame(letter), b"no letter"])]),
        dead_letters.Steps(
            positions.passed, DeadLetterReader(Origin("deadletters", "dead.letters")).read
        ),
        TestingSink(to_table),
    )
    run(flow)
    (read,) = items(to_table, "table")
    offsets = [row["source_offset"] for part in read.rows for row in part.frame.to_dicts()]
    assert offsets == [7, 1]  # the second is about itself
    assert positions.checkpoints() == {0: Checkpoint(2, 2)}


def test_tallies_are_rows_on_the_edge_and_what_is_none_is_a_dead_letter() -> None:
    tally = {
        "flow": "clean",
        "source_topic": "raw.web",
        "source_partition": 0,
        "window_start": NOON,
        "outcome": "accepted",
        "code": "",
        "records": 9,
    }
    positions, reader = Positions(), tally_reader()
    to_tables: list[tuple[str, ReadRows]] = []
    to_dead: list[tuple[str, Records]] = []
    origin = Origin("quality", "tallies")
    flow = quality.build(
        "quality",
        TestingSource([batch_of([OUTCOME.frame(tally), b"?"])]),
        quality.Steps(
            positions.passed,
            reader.read,
            lambda r: encode.dead_letters(unreadable(r.batch, r.refused, origin)),
        ),
        quality.Sinks(TestingSink(to_tables), TestingSink(to_dead)),
    )
    run(flow)
    (read,) = items(to_tables, "tables")
    assert [part.frame["records"].to_list() for part in read.rows] == [[9]]
    assert [LETTER.read(v)["payload"] for v in values(items(to_dead, "dead"))] == [b"?"]
