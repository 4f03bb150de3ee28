"""No record may raise: mutated ones go the whole way to rows, and each has exactly one outcome."""

from __future__ import annotations

import random
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
import pytest

from flows.connectors.avro import encode, schemas
from flows.connectors.avro.decode import Decoder
from flows.connectors.avro.encode import CleanEncoder
from flows.connectors.avro.readers import CleanReader, DeadLetterReader, tally_reader
from flows.connectors.records import Records
from flows.domain.batch import Origin
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint
from flows.domain.cleaning import Cleaning
from flows.domain.codes import VERDICTS, Code
from flows.domain.counting import Counting
from flows.domain.dead_letters import RefusedEvents
from flows.domain.fence import Terms
from flows.domain.judge import Limits
from flows.domain.web import WEB
from tests.support import plain_oracle as oracle
from tests.support.batches import batch_of
from tests.support.plain_oracle import Unreadable
from tests.support.web_events import LETTER, NOON, V1, V2, event, item, uuid

COUNT, BATCH = 200_000, 10_000
MAX = 1_000
RAW = Origin("clean", "raw.web")
KINDS = ("PAGE_VIEW", "SEARCH", "ADD_TO_CART", "REMOVE_FROM_CART", "CHECKOUT", "PURCHASE", "REFUND")


def originals() -> list[bytes]:
    chance = random.Random(1)
    events = [
        event(
            chance.choice(KINDS),
            event_id=uuid(i),
            event_time=NOON + i,
            customer_id=chance.choice([None, "c-1", "ü"]),
            tax_minor=chance.choice([None, 0, 10**12]),
            app_version=chance.choice([None, "1.0", "ß"]),
        )
        for i in range(300)
    ]
    for e in events:
        e["items"] = [
            item(product_id=f"p-{n}", quantity=n + 1) for n in range(chance.randrange(4))
        ] or e["items"]
    return [
        chance.choice([V2.frame(e), V1.frame(e), V2.confluent(e, 2), V1.confluent(e, 1)])
        for e in events
    ]


def flip(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)


def overwrite(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    value[chance.randrange(len(value))] = chance.choice(
        [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)]
    )


def truncate(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    del value[chance.randrange(len(value)) :]


def insert(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = chance.randrange(len(value) + 1)
    value[at:at] = chance.randbytes(chance.randrange(1, 12))


def delete(value: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = chance.randrange(len(value))
    del value[at : at + chance.randrange(1, 12)]


def splice(value: bytearray, chance: random.Random, pool: list[bytes]) -> None:
    other = chance.choice(pool)
    value[chance.randrange(len(value)) :] = other[chance.randrange(len(other)) :]


MUTATIONS: list[Callable[[bytearray, random.Random, list[bytes]], None]] = [
    flip,
    flip,
    overwrite,
    truncate,
    insert,
    delete,
    splice,
]


def mutated(count: int, seed: int) -> Iterator[bytes]:
    chance, pool = random.Random(seed), originals()
    for _ in range(count):
        value = bytearray(chance.choice(pool))
        for _ in range(chance.choice([0, 1, 1, 1, 2])):
            if value:
                chance.choice(MUTATIONS)(value, chance, pool)
        yield bytes(value)


def decoder() -> Decoder:
    return Decoder(WEB, schemas.ConfluentIds(None), MAX)


def outcome_of(value: bytes) -> str | None:
    try:
        oracle.read(value, MAX)
    except Unreadable as error:
        return str(error)
    return None


def values_of(records: Records) -> list[bytes]:
    return [message["value"] for messages in records.messages.values() for message in messages]


class Road:
    """All the way of a record without its topics and tables."""

    def __init__(self) -> None:
        self.decoder = decoder()
        self.cleaning = Cleaning(
            WEB,
            Limits(timedelta(minutes=1), timedelta(seconds=10)),
            RejectBudget(2.0, 10),
        )
        self.cleaning.restore(0, Checkpoint(0, 0))
        # most batches are not stored, so what is counted has holes
        self.counting = Counting(WEB, RAW, timedelta(minutes=1), 100, Terms(goes_on=True))
        self.counting.restore(0, Checkpoint(0, 0))
        self.clean_reader = CleanReader(WEB)
        self.letter_reader = DeadLetterReader(Origin("deadletters", "dead.letters"))
        self.tally_reader = tally_reader()
        self.encoder, self.refused = CleanEncoder(WEB), RefusedEvents(WEB, RAW)
        self.tallies = encode.TallyRecords(self.cleaning.tallies, RAW)
        self.outcomes: Counter[str] = Counter()

    def drive(self, values: list[bytes], start: int, to_the_end: bool = True) -> dict[int, Code]:
        batch = batch_of(values, start, NOON + 300, b"key")
        decoded = self.decoder.decode(batch)
        unreadable = {row: code for row, code, _ in decoded.refused}
        assert sorted([*unreadable, *decoded.events["row"].to_list()]) == list(range(len(values)))
        cleaned = self.cleaning.clean(decoded)
        counts = np.bincount(cleaned.judged.verdict, minlength=len(VERDICTS)).tolist()
        self.outcomes += Counter(
            {code or str(outcome): n for (outcome, code), n in zip(VERDICTS, counts, strict=True)}
        )
        accepted = values_of(self.encoder.one_event_per_record(cleaned))
        dead = values_of(encode.dead_letters(self.refused.dead_letters(cleaned)))
        assert len(accepted) + len(dead) + counts[1] == len(values)
        refused = [letter["payload"] for letter in map(LETTER.read, dead)]
        assert refused == [values[row] for row in np.flatnonzero(cleaned.judged.verdict > 1)]
        if to_the_end:
            self.store(accepted, dead, start)
        return unreadable

    def store(self, accepted: list[bytes], dead: list[bytes], start: int) -> None:
        tallies = values_of(self.tallies.take())
        clean = self.clean_reader.read(batch_of(accepted, start))
        self.counting.count(clean)
        letters = self.letter_reader.read(batch_of(dead, start))
        counts = self.tally_reader.read(batch_of(tallies, start))
        for rows in (*self.counting.take(), *letters.rows, *counts.rows):
            for row in rows.frame.iter_rows():
                assert not any(isinstance(cell, str) and "\0" in cell for cell in row)
        assert not clean.refused
        assert not counts.refused


@pytest.mark.slow
def test_every_mutated_record_has_one_outcome() -> None:
    road = Road()
    values = list(mutated(COUNT, seed=20260301))
    differing = []
    for start in range(0, COUNT, BATCH):
        batch = values[start : start + BATCH]
        unreadable = road.drive(batch, start, to_the_end=start % (5 * BATCH) == 0)
        differing += [
            (value, code, expected)
            for i, value in enumerate(batch)
            if (expected := outcome_of(value)) != (code := unreadable.get(i))
        ]
    assert sum(road.outcomes.values()) == COUNT
    assert differing == []
    assert set(road.outcomes) - {name for name, n in road.outcomes.items() if n < 10} == {
        "accepted",
        "duplicate",
        "LATE",
        "EMPTY",
        "BAD_MAGIC",
        "UNKNOWN_SCHEMA",
        "TRUNCATED",
        "TRAILING_BYTES",
        "BAD_UTF8",
        "NOT_AVRO",
        "INVALID",
        "FUTURE_TIME",
        "ID_CONFLICT",
    }


@pytest.mark.slow
def test_a_verdict_does_not_depend_on_the_batch_around_it() -> None:
    values = list(mutated(2_000, seed=7))
    whole = decoder().decode(batch_of(values, 0))
    bodies = dict(zip(whole.events["row"].to_list(), whole.bodies.to_pylist(), strict=True))
    codes = {row: (code, fingerprint) for row, code, fingerprint in whole.refused}
    alone = decoder()
    for row, value in enumerate(values):
        decoded = alone.decode(batch_of([value], 0))
        assert decoded.bodies.to_pylist() == ([bodies[row]] if row in bodies else [])
        assert [(code, fingerprint) for _, code, fingerprint in decoded.refused] == (
            [codes[row]] if row in codes else []
        )


def long_bytes(number: int) -> bytes:
    return encode._long_bytes(number)


BEFORE_ITEMS = V1.write(event(items=[]))[:-1]
GREEDY = {
    "a text of 2 GiB": V2.header + long_bytes(2**31),
    "a text of 8 EiB": V2.header + long_bytes(2**63 - 1),
    "a text of minus 8 EiB": V2.header + long_bytes(-(2**63)),
    "an array of a billion": V1.header + BEFORE_ITEMS + long_bytes(10**9) + b"\0",
    "an array of 2^62": V1.header + BEFORE_ITEMS + long_bytes(2**62) + b"\0",
    "an array of minus 2^62": V1.header
    + BEFORE_ITEMS
    + long_bytes(-(2**62))
    + long_bytes(2**62)
    + b"\0",
    "an array of minus 2^63": V1.header + BEFORE_ITEMS + long_bytes(-(2**63)) + b"\0\0",
    "a block of 2^62 bytes": V1.header
    + BEFORE_ITEMS
    + long_bytes(-1)
    + long_bytes(2**62)
    + b"\0\0\0\0\0",
}


@pytest.mark.parametrize("what", GREEDY)
def test_a_claimed_length_reserves_no_memory(what: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = V2.frame(event())
    decoded = decoder().decode(batch_of([good, GREEDY[what], good]))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 64
    assert len(decoded.events) + len(decoded.refused) == 3
    assert set(decoded.events["row"].to_list()) >= {0, 2}


EXTREME = (-(2**63), -(2**62), -62_135_596_800_001, 253_402_300_800_000, 2**53, 2**62, 2**63 - 1)


@pytest.mark.parametrize("time", EXTREME)
def test_the_ends_of_time_are_refused_and_told(time: int) -> None:
    road = Road()
    road.drive(
        [V2.frame(event(event_time=time)), V2.frame(event(event_time=time, tax_minor=-1))], 0
    )
    assert +road.outcomes in (Counter(INVALID=2), Counter(FUTURE_TIME=1, INVALID=1))


def test_the_ends_of_numbers_are_refused_and_told() -> None:
    longs, ints = (-(2**63), 2**63 - 1), (-(2**31), 2**31 - 1)
    events = [
        event() | {name: n}
        for name in ("discount_minor", "tax_minor", "shipping_minor")
        for n in longs
    ]
    events += [event(search_results=ints[0]), *(event(items=[item(quantity=n)] * 3) for n in ints)]
    events += [event(items=[item(unit_price_minor=n)] * 3) for n in longs]
    road = Road()
    road.drive([V2.frame(e | {"event_id": uuid(i)}) for i, e in enumerate(events)], 0)
    assert +road.outcomes == Counter(INVALID=len(events))
