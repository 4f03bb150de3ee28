"""Make dead letters: a refused record with its bytes, its coordinates and every broken rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import polars as pl

from flows.domain import rules
from flows.domain.batch import Batch, Origin, Refusal
from flows.domain.cleaning import Cleaned
from flows.domain.codes import ACCEPTED, CONFLICT, DUPLICATE, LATE, VERDICTS, Code
from flows.domain.family import Family
from flows.domain.rules import Rule
from flows.domain.tables import NEWEST_MS, OLDEST_MS
from flows.domain.text import printable
from flows.domain.validate import Pointer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DeadLetter = dict[str, Any]
"""A record of `avro/dead_letter.avsc`."""


# What a broker takes by default, so that any usual record is kept whole. A record that compresses
# well can be larger than the letter about it may be: then it is cut, and its length and hash told.
MOST_BYTES = 1_048_576


class RefusedEvents:
    """Make dead letters of what the judge refused."""

    def __init__(self, family: Family, origin: Origin) -> None:
        self._origin = origin
        self._pointer = Pointer(family)
        self._stake = family.stake
        every = (*family.rules, *family.item_rules, *rules.JUDGED_RULES)
        self._rules = {rule.name: rule for rule in every}

    def dead_letters(self, cleaned: Cleaned) -> list[DeadLetter]:
        """Make the dead letters of a batch, in offset order per partition."""
        judged, batch = cleaned.judged, cleaned.judged.batch
        refused = (judged.verdict != ACCEPTED) & (judged.verdict != DUPLICATE) & cleaned.is_new
        rows = refused.nonzero()[0].tolist()
        if not rows:
            return []  # the usual batch, which needs none of the look-ups below
        index_of = {row: i for i, row in enumerate(judged.events["row"].to_list())}
        events = _as_dicts(judged.events, [index_of[row] for row in rows if row in index_of])
        letters = []
        for row in rows:
            index = index_of.get(row)
            event = None if index is None else events[index]  # None: it could not be decoded
            letter = _dead_letter(batch, row, self._origin)
            letters.append(
                letter
                | {
                    "code": str(VERDICTS[judged.verdict[row]][1]),
                    "violations": [
                        *self._violations(cleaned, row, index, event),
                        *letter["violations"],
                    ],
                    "schema_fingerprint": event["fingerprint"]
                    if event
                    else judged.refused_fingerprints.get(row),
                    "app_version": _version(event),
                    **self._at_stake(event),
                }
            )
        return letters

    def _at_stake(self, event: dict[str, Any] | None) -> dict[str, Any]:
        """Say what the event is and what it was worth, where it could be read."""
        if event is None:
            return {}
        stake = self._stake(event)
        worth = stake and {"amount_minor": stake.amount_minor, "amount_currency": stake.currency}
        return {"event_type": event.get("event_type"), **(worth or {})}

    def _violations(
        self, cleaned: Cleaned, row: int, index: int | None, event: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Name every rule that the record broke; `index` is its row among the events."""
        verdict = cleaned.judged.verdict[row]
        if index is None or event is None:
            large = VERDICTS[verdict][1] == Code.TOO_LARGE
            return [_violation(rules.RECORD_TOO_LARGE if large else rules.RECORD_UNREADABLE)]
        if verdict == LATE:
            broken = [rules.EVENT_TIME_LATE]
        elif verdict == CONFLICT:
            broken = [rules.EVENT_ID_CONFLICT]
        else:
            findings = cleaned.judged.findings.broken
            broken = [self._rules[name] for name, hits in findings.items() if hits[index]]
        return [_violation(rule, *self._pointer.value_of(rule, event)) for rule in broken]


def unreadable(batch: Batch, refused: Sequence[Refusal], origin: Origin) -> list[DeadLetter]:
    """Make the dead letters of records of our own topics that could not be read."""
    return [
        letter
        | {
            "code": str(code),
            "violations": [_violation(rules.RECORD_UNREADABLE), *letter["violations"]],
        }
        for row, code, _ in refused
        for letter in (_dead_letter(batch, row, origin),)
    ]


def _dead_letter(batch: Batch, row: int, origin: Origin) -> DeadLetter:
    key, payload = batch.key[row].as_py(), batch.payload[row].as_py()
    cut = [
        _violation(rules.RECORD_TOO_LARGE, name, _told(value))
        for name, value in (("key", key), ("payload", payload))
        if value is not None and len(value) > MOST_BYTES
    ]
    return {
        "violations": cut,
        "source_topic": origin.topic,
        "source_partition": int(batch.partition[row]),
        "source_offset": int(batch.offset[row]),
        "source_timestamp": min(max(int(batch.timestamp[row]), OLDEST_MS), NEWEST_MS),
        "source_key": key and key[:MOST_BYTES],
        "payload": payload and payload[:MOST_BYTES],
        "flow": origin.flow,
        "schema_fingerprint": None,
        "app_version": None,
        "attempt": 1,
        "event_type": None,
        "amount_minor": None,
        "amount_currency": None,
        "source_incarnation": batch.incarnation(int(batch.partition[row])),
    }


def _told(value: bytes) -> str:
    return f"{len(value)} bytes, of which {MOST_BYTES} are kept; blake2b {_hash(value)}"


def _hash(value: bytes) -> str:
    return blake2b(value, digest_size=16).hexdigest()


def _violation(rule: Rule, field: str = "", value: str | None = None) -> dict[str, Any]:
    return {"rule": rule.name, "field": field, "dimension": str(rule.dimension), "value": value}


def _as_dicts(events: pl.DataFrame, indices: list[int]) -> dict[int, dict[str, Any]]:
    """Give the events at the indices.

    Time: as text, made from numbers, since a wrong one can be beyond what a Python datetime holds
    (test_the_ends_of_time_are_refused_and_told).
    """
    numbered = events[indices].with_columns(pl.col("event_time").to_physical()).to_dicts()
    return {
        index: event | {"event_time": _moment(event["event_time"])}
        for index, event in zip(indices, numbered, strict=True)
    }


def _moment(milliseconds: int) -> str:
    """Format a time; as its number where it is in no year of a datetime."""
    try:
        return str(EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return f"{milliseconds} ms"


def _version(event: dict[str, Any] | None) -> str | None:
    version = event.get("app_version") if event else None
    return None if version is None else printable(version)
