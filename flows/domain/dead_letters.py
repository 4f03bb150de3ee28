"""Dead letters: a refused record with its exact bytes, where it stood, and everything that is wrong
with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from flows.domain import rules
from flows.domain.cleaning import Cleaned
from flows.domain.codes import ACCEPTED, CONFLICT, DUPLICATE, LATE, VERDICTS, Code
from flows.domain.judge import Judged
from flows.domain.rules import EVENT_RULES, ITEM_RULES, Rule
from flows.domain.validate import printable, value_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BY_NAME = {r.name: r for r in (*EVENT_RULES, *ITEM_RULES, *rules.JUDGED_RULES)}


def violation(rule: Rule, field: str, value: str | None) -> dict[str, Any]:
    return {"rule": rule.name, "field": field, "dimension": str(rule.dimension), "value": value}


def violations_of(
    judged: Judged, verdict: int, at: int | None, event: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Every rule that the record broke; `at` is its place among the readable events."""
    if at is None or event is None:
        large = VERDICTS[verdict][1] == Code.TOO_LARGE
        return [violation(rules.RECORD_TOO_LARGE if large else rules.RECORD_UNREADABLE, "", None)]
    if verdict == LATE:
        return [violation(rules.EVENT_TIME_LATE, *value_of(rules.EVENT_TIME_LATE, event))]
    if verdict == CONFLICT:
        return [violation(rules.EVENT_ID_CONFLICT, *value_of(rules.EVENT_ID_CONFLICT, event))]
    broken = (BY_NAME[name] for name, rows in judged.findings.broken.items() if rows[at])
    return [violation(rule, *value_of(rule, event)) for rule in broken]


def moment(milliseconds: int) -> str:
    """A time as text; as its number where no calendar has it."""
    try:
        return str(EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return f"{milliseconds} ms"


def letters(cleaned: Cleaned, topic: str) -> list[dict[str, Any]]:
    """The dead letters of a batch, in order; records as of `avro/dead_letter.avsc`."""
    judged, batch = cleaned.judged, cleaned.judged.batch
    refused = (judged.verdict != ACCEPTED) & (judged.verdict != DUPLICATE) & cleaned.is_new
    rows = refused.nonzero()[0]
    if not len(rows):
        return []
    places = (
        {row: i for i, row in enumerate(judged.events["row"].to_list())}
        if len(judged.events)
        else {}
    )
    readable = [places[row] for row in rows.tolist() if row in places]
    # as numbers: a wild event time is beyond what a Python datetime can be
    # (test_the_ends_of_time_are_refused_and_told)
    numbered = judged.events[readable].with_columns(pl.col("event_time").to_physical()).to_dicts()
    events = {
        i: event | {"event_time": moment(event["event_time"])}
        for i, event in zip(readable, numbered, strict=True)
    }
    keys, payloads = batch.key.take(rows).to_pylist(), batch.payload.take(rows).to_pylist()
    found = []
    for row, key, payload in zip(rows.tolist(), keys, payloads, strict=True):
        at = places.get(row)
        event = None if at is None else events[at]
        version = event and event["app_version"]
        found.append(
            {
                "source_topic": topic,
                "source_partition": int(batch.partition[row]),
                "source_offset": int(batch.offset[row]),
                "source_timestamp": int(batch.timestamp[row]),
                "source_key": key,
                "payload": payload,
                "flow": "clean",
                "code": str(VERDICTS[judged.verdict[row]][1]),
                "violations": violations_of(judged, judged.verdict[row], at, event),
                "schema_fingerprint": event["fingerprint"]
                if event
                else judged.refused_fingerprints.get(row),
                "app_version": None if version is None else printable(version),
                "attempt": 1,
            }
        )
    return found
