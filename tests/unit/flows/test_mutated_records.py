"""No record may raise: spoilt ones go the whole way to rows, and each has exactly one outcome."""

from __future__ import annotations

import resource
from collections import Counter

import pytest

from flows.connectors.avro import encode, schemas
from flows.connectors.avro.decode import Decoder
from flows.domain.web import WEB
from tests.fuzz.check import RECORDS, Wrong, check
from tests.fuzz.logs import LIMITS, log_of
from tests.fuzz.on_all_cores import run
from tests.fuzz.road import Road
from tests.support import plain_oracle as oracle
from tests.support.batches import batch_of
from tests.support.plain_oracle import Stored
from tests.support.web_events import NOON, V1, V2, event, item, uuid

COUNT = 500_000


def road_of_one() -> Road:
    return Road(oracle.Limits(), [0])


def log(values: list[bytes]) -> list[Stored]:
    return [Stored(0, offset, NOON + 300, value, b"key") for offset, value in enumerate(values)]


def decoder() -> Decoder:
    return Decoder(WEB, schemas.ConfluentIds(None), 1_000)


@pytest.mark.slow
def test_every_record_of_half_a_million_has_the_one_outcome_that_the_rules_say() -> None:
    """Rows too, and memory stays as it is; `python -m tests.fuzz` takes ten million."""
    outcomes = sum(run(1, COUNT // RECORDS, 2), Counter[str]())
    assert outcomes.total() == COUNT
    assert {name for name, n in outcomes.items() if n >= 100} == {
        "accepted",
        "duplicate",
        "LATE",
        "EMPTY",
        "TOO_LARGE",
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


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    other = oracle.Limits(50_000, LIMITS.tolerance, LIMITS.max_bytes)
    judge = oracle.judge
    monkeypatch.setattr(oracle, "judge", lambda log, _: judge(log, other))
    with pytest.raises(Wrong, match="not late LATE"):
        check(1)


@pytest.mark.slow
def test_a_verdict_does_not_depend_on_the_batch_around_it() -> None:
    values = [record.value for record in log_of(7, 2_000)]
    whole = Decoder(WEB, schemas.ConfluentIds(None), LIMITS.max_bytes).decode(batch_of(values, 0))
    bodies = dict(zip(whole.events["row"].to_list(), whole.bodies.to_pylist(), strict=True))
    codes = {row: (code, fingerprint) for row, code, fingerprint in whole.refused}
    alone = Decoder(WEB, schemas.ConfluentIds(None), LIMITS.max_bytes)
    for row, value in enumerate(values):
        decoded = alone.decode(batch_of([value], 0))
        assert decoded.bodies.to_pylist() == ([bodies[row]] if row in bodies else [])
        assert [(code, fingerprint) for _, code, fingerprint in decoded.refused] == (
            [codes[row]] if row in codes else []
        )


def long_bytes(number: int) -> bytes:
    return encode._long_bytes(number)


WIDE = (2**31, -(2**31) - 1, 2**63 - 1, -(2**63))


@pytest.mark.parametrize("number", WIDE)
@pytest.mark.parametrize("among", [0, 3])
def test_an_int_that_is_wider_than_32_bits_is_no_avro(number: int, among: int) -> None:
    """Found by atheris: fastavro reads it, pyruhvro cuts it, and no column of ours can hold it."""
    good = V2.frame(event("SEARCH", search_results=3))
    before, after = good.split(b"\x02\x06", 1)
    wide = before + b"\x02" + long_bytes(number) + after
    decoded = decoder().decode(batch_of([wide, *[good] * among]))
    assert [(row, code) for row, code, _ in decoded.refused] == [(0, "NOT_AVRO")]
    assert len(decoded.events) == among


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
    road = road_of_one()
    road.drive(
        log([V2.frame(event(event_time=time)), V2.frame(event(event_time=time, tax_minor=-1))])
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
    road = road_of_one()
    road.drive(log([V2.frame(e | {"event_id": uuid(i)}) for i, e in enumerate(events)]))
    assert +road.outcomes == Counter(INVALID=len(events))
