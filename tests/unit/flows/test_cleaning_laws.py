"""Laws of clean: however a log is cut into batches, and wherever it stops and starts again, the
verdicts are the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import Decoder
from flows.domain import checkpoint
from flows.domain.batch import Origin
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint
from flows.domain.cleaning import Cleaned, Cleaning
from flows.domain.codes import VERDICTS
from flows.domain.dead_letters import RefusedEvents
from flows.domain.hashing import keys_in_partitions, keys_of_ids
from flows.domain.ids import Identified, KnownIds
from flows.domain.judge import Limits
from flows.domain.tallies import OffsetTally
from flows.domain.web import WEB
from tests.support import plain_oracle as oracle
from tests.support.batches import batch_of_log
from tests.support.plain_oracle import Stored, Verdict
from tests.support.web_events import NOON, V1, V2, uuid
from tests.support.web_events import event as web_event

LATENESS, TOLERANCE = 5_000, 2_000
DECODER = Decoder(WEB, schemas.ConfluentIds(None), 2_000)
REFUSED = RefusedEvents(WEB, Origin("clean", "raw.web"))
GOOD = V2.frame(web_event())
GARBAGE = (
    None,
    b"",
    b"junk",
    b"\xc3",
    b"\xc3\x01\x00",
    b"\x00\x00\x00",
    b"\x00\x00\x00\x00\x63rest",
    b"\xc3\x01" + b"?" * 30,
    GOOD[:-3],
    GOOD + b"!",
    GOOD[:11] + b"\xff" * 36 + GOOD[47:],
    GOOD[:10] + b"\xff" * 12,
    GOOD + b"x" * 2_000,
)


BEHIND = (*range(-8, 4), 6, -5.001, -4.999, 0.001)
PAUSES = (0, 0, 1, 300, 20_000, 61_000, -5_000, -90_000)
KINDS = (
    "new",
    "new",
    "pool",
    "pool",
    "pool",
    "again",
    "again",
    "conflict",
    "old",
    "future",
    "invalid",
    "garbage",
    "leap",
)


@pytest.fixture(scope="module", autouse=True)
def notes_in_mid_log() -> Iterator[None]:
    """Notes stand close together, so that logs as short as these have some."""
    with patch.object(checkpoint, "NOTE_EVERY", 6):
        yield


@dataclass(frozen=True)
class Step:
    """How to make a record from those before it. `at` is event time in seconds from where the log
    is by then."""

    kind: str
    partition: int
    number: int
    at: float
    pause: int


def steps(kinds: tuple[str, ...]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        st.sampled_from(kinds),
        st.integers(0, 2),
        st.integers(0, 30),
        st.sampled_from(BEHIND),
        st.sampled_from(PAUSES),
    )


@lru_cache(maxsize=100_000)
def value_of(number: int, time: int, variant: int, broken: bool) -> bytes:
    changes = {"country": "de"} if broken else {"page": f"/v/{variant}"}
    good = web_event(event_id=uuid(number), event_time=time, **changes)
    return V1.confluent(good, 1) if number % 7 == 3 else V2.frame(good)


def log_of(plan: list[Step], pace: float) -> list[Stored]:
    """The log that the steps make. Event time moves on by `pace` seconds a record, Kafka's clock by
    the pauses."""
    log: list[Stored] = []
    clock = NOON + 250_000
    for i, step in enumerate(plan):
        clock = max(
            clock + step.pause, NOON + 160_000
        )  # backwards too, but nothing is future unless it wants to be
        time = round(NOON + 1_000 * (i * pace + step.at))
        earlier = [r.value for r in log if r.partition == step.partition]
        if step.kind == "garbage":
            value = GARBAGE[step.number % len(GARBAGE)]
        elif step.kind == "future":
            value = value_of(1_000 + i, clock + TOLERANCE + step.number % 2, 0, False)
        elif step.kind == "invalid":
            value = value_of(step.number % 4, time, 0, True)
        elif step.kind == "again" and earlier:
            value = earlier[-1 - step.number % len(earlier)]
        else:
            number = step.number % 3 if step.kind in ("pool", "conflict") else 1_000 + i
            value = value_of(number, time - 4_000 * (step.kind == "old"), step.number % 2, False)
        offset = 10 * step.partition + 2 * sum(
            r.partition == step.partition for r in log
        )  # with gaps, as after a transaction
        # the broker's clock is a day ahead, for one record
        stamp = clock + 86_400_000 * (step.kind == "leap")
        log.append(Stored(step.partition, offset, stamp, value, b"k"))
    return log


@dataclass
class Run:
    """A clean process over a log, and what it told the world: a table of verdicts, and one of
    tallies."""

    log: list[Stored]
    order: int = 0
    verdicts: dict[tuple[int, int], list[Verdict]] = field(default_factory=dict)
    outcomes: dict[tuple[int, int, str, str], int] = field(default_factory=dict)
    rules: dict[tuple[int, int, str], tuple[int, int]] = field(default_factory=dict)
    offsets: dict[tuple[int, int], OffsetTally] = field(default_factory=dict)
    numbers: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    crashes: int = 0

    def __post_init__(self) -> None:
        firsts: dict[int, int] = {}
        for r in self.log:
            firsts.setdefault(r.partition, r.offset)
        self.committed = {p: Checkpoint(first, first) for p, first in firsts.items()}
        self.start()

    def start(self) -> None:
        """Begin as a fresh process does: from the committed offsets and notes."""
        limits = Limits(timedelta(milliseconds=LATENESS), timedelta(milliseconds=TOLERANCE))
        self.cleaning = Cleaning(WEB, limits, RejectBudget(2.0, 10))
        for p, place in self.committed.items():
            self.cleaning.restore(p, place)
        self.rest = [r for r in self.log if r.offset >= self.committed[r.partition].rewind]
        if self.order:  # a consumer gives its partitions in any mixture
            self.rest.sort(key=lambda r: (r.partition * self.order) % 4)

    def poll(self, count: int) -> None:
        records, self.rest = self.rest[:count], self.rest[count:]
        batch = batch_of_log(records)
        cleaned = self.cleaning.clean(DECODER.decode(batch))
        self.tell(records, cleaned)

    def tell(self, records: list[Stored], cleaned: Cleaned) -> None:
        reasons = {
            (letter["source_partition"], letter["source_offset"]): letter
            for letter in REFUSED.dead_letters(cleaned)
        }
        for row, record in enumerate(records):
            if not cleaned.is_new[row]:
                continue
            outcome, code = VERDICTS[cleaned.judged.verdict[row]]
            at = record.partition, record.offset
            letter = reasons.pop(at, None)
            assert (letter is not None) == (outcome in ("late", "rejected"))
            assert letter is None or (letter["payload"], letter["code"]) == (record.value, code)
            broken = tuple(sorted(v["rule"] for v in letter["violations"])) if letter else ()
            self.verdicts.setdefault(at, []).append(Verdict(str(outcome), str(code), broken))
            if outcome == "accepted":
                self.numbers.setdefault(at, set()).add(int(cleaned.accepted[row]))
        assert not reasons

    def flush(self) -> None:
        """Tallies go out; a row of the table is replaced only by a higher count."""
        changes = self.cleaning.tallies.take()
        for o in changes.outcomes:
            key = o.partition, o.minute, str(o.outcome), str(o.code)
            self.outcomes[key] = max(self.outcomes.get(key, 0), o.records)
        for r in changes.rules:
            at = r.partition, r.minute, r.rule
            self.rules[at] = max(
                self.rules.get(at, (0, 0)), (r.checked, r.broken), key=lambda pair: pair[0]
            )
        for t in changes.offsets:
            place = t.partition, t.minute
            stored = self.offsets.get(place)
            if stored is None or t.offsets > stored.offsets:
                self.offsets[place] = t

    def commit(self) -> None:
        self.flush()
        self.committed |= self.cleaning.checkpoints()

    def crash(self) -> None:
        self.crashes += 1
        self.start()

    def follow(self, script: list[tuple[str, int]]) -> Run:
        """Play the script, then read the log to its end."""
        actions: dict[str, Callable[[int], None]] = {
            "poll": self.poll,
            "flush": lambda _: self.flush(),
            "commit": lambda _: self.commit(),
            "crash": lambda _: self.crash(),
        }
        for action, count in script:
            actions[action](count)
        while self.rest:
            self.poll(7)
        self.flush()
        return self


SCRIPTS = st.lists(
    st.tuples(st.just("poll"), st.integers(0, 9))
    | st.tuples(st.sampled_from(["commit", "commit", "flush", "crash"]), st.just(0)),
    max_size=30,
)


def agree(run: Run) -> None:
    """Every record has one verdict, however often it was told, and it is the oracle's; so are the
    tallies."""
    expected = oracle.judge(run.log, oracle.Limits(LATENESS, TOLERANCE, 2_000))
    assert run.verdicts.keys() == expected.keys()
    for at, verdicts in run.verdicts.items():
        assert set(verdicts) == {expected[at]}, at
    assert run.outcomes == oracle.outcome_tallies(run.log, expected)
    assert run.numbers == numbers_of(expected)
    agree_on_offsets(run)
    broken = {key: broken for key, (_, broken) in run.rules.items() if broken}
    assert broken == oracle.broken_tallies(run.log, expected)


def numbers_of(expected: dict[tuple[int, int], Verdict]) -> dict[tuple[int, int], set[int]]:
    """Number the accepted records of each partition, from 1."""
    counts: dict[int, int] = {}
    numbers = {}
    for (partition, offset), verdict in sorted(expected.items()):
        if verdict.outcome == "accepted":
            counts[partition] = counts.get(partition, 0) + 1
            numbers[partition, offset] = {counts[partition]}
    return numbers


def agree_on_offsets(run: Run) -> None:
    """Offsets are outcomes and what holds no record, by minute; and all of them by partition."""
    outcomes: dict[tuple[int, int], int] = {}
    for (p, minute, _, _), records in run.outcomes.items():
        outcomes[p, minute] = outcomes.get((p, minute), 0) + records
    assert outcomes == {
        at: t.offsets - t.control - t.lost for at, t in run.offsets.items() if t.offsets
    }
    for p in {r.partition for r in run.log}:
        own = [r.offset for r in run.log if r.partition == p]
        assert sum(t.offsets for (q, _), t in run.offsets.items() if q == p) == (
            max(own) - min(own) + 1
        )
        accepted = sum(len(numbers) for (q, _), numbers in run.numbers.items() if q == p)
        assert max(t.accepted for (q, _), t in run.offsets.items() if q == p) == accepted


def by_chance(seed: int) -> tuple[list[Step], list[tuple[str, int]]]:
    """A longer log and script than hypothesis likes to draw."""
    chance = random.Random(seed)
    plan = [
        Step(
            chance.choice(KINDS),
            chance.randrange(3),
            chance.randrange(31),
            chance.choice(BEHIND),
            chance.choice(PAUSES),
        )
        for _ in range(chance.randrange(10, 90))
    ]
    actions = ["poll"] * 4 + ["commit"] * 2 + ["flush", "crash"]
    return plan, [
        (chance.choice(actions), chance.randrange(10)) for _ in range(chance.randrange(3, 40))
    ]


QUIET = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.slow
@settings(QUIET, max_examples=100)
@given(
    st.tuples(st.lists(steps(KINDS), max_size=40), SCRIPTS) | st.integers(0, 2**32).map(by_chance),
    st.sampled_from([0.3, 1, 3]),
    st.integers(0, 3),
)
def test_any_batching_and_any_restart_gives_the_same_verdicts(
    drawn: tuple[list[Step], list[tuple[str, int]]], pace: float, order: int
) -> None:
    plan, script = drawn
    log = log_of(plan, pace)
    whole = Run(log).follow([("poll", len(log))])
    agree(whole)
    cut = Run(log, order).follow(script)
    agree(cut)
    assert cut.rules == whole.rules
    for outcome in {v.code or v.outcome for verdicts in whole.verdicts.values() for v in verdicts}:
        event(outcome)
    event(f"crashes: {min(cut.crashes, 3)}")


def at(second: float, number: int, variant: int = 0, partition: int = 0, minute: int = 5) -> Stored:
    """A good record: event time `second`, id `number`, Kafka's clock at `minute`."""
    return Stored(
        partition,
        0,
        NOON + minute * 60_000,
        value_of(number, NOON + round(second * 1_000), variant, False),
        b"k",
    )


def numbered(records: list[Stored]) -> list[Stored]:
    """With offsets as Kafka gives them."""
    return [
        r._replace(offset=sum(e.partition == r.partition for e in records[:i]))
        for i, r in enumerate(records)
    ]


def outcomes(run: Run) -> list[str]:
    return [
        run.verdicts[r.partition, r.offset][-1].code
        or run.verdicts[r.partition, r.offset][-1].outcome
        for r in run.log
    ]


def test_a_commit_while_the_state_is_still_being_rebuilt_forgets_nothing() -> None:
    log = numbered([at(0, 1), at(0, 2, partition=1), at(1, 1), at(0, 1), at(0, 2, partition=1)])
    run = Run(log)
    run.poll(3)
    run.commit()
    run.crash()
    run.poll(1)  # of partition 1 nothing was read again yet
    run.commit()
    run.crash()
    run.follow([])
    assert outcomes(run) == ["accepted", "accepted", "ID_CONFLICT", "duplicate", "duplicate"]
    agree(run)


def test_a_minute_that_is_still_counted_keeps_what_its_verdicts_depend_on() -> None:
    # id 1 is forgotten when the watermark reaches 20 s, but the minute in which its duplicate is
    # counted is still open
    log = numbered(
        [
            at(0, 1, minute=3),
            *(at(second, i, minute=6) for i, second in ((1, 0), (2, 20), (3, 40), (4, 60))),
        ]
    )
    run = Run(log).follow(
        [
            ("poll", 1),
            ("commit", 0),
            ("poll", 1),
            ("commit", 0),
            ("poll", 2),
            ("commit", 0),
            ("crash", 0),
        ]
    )
    assert outcomes(run) == ["accepted", "duplicate", "accepted", "accepted", "accepted"]
    agree(run)


def test_an_id_is_known_to_the_millisecond_of_the_lateness() -> None:
    log = numbered([at(0, 1), at(5, 2), at(0, 1), at(5.001, 3), at(0, 1), at(0.001, 1)])
    assert outcomes(Run(log).follow([])) == [
        "accepted",
        "accepted",
        "duplicate",
        "accepted",
        "LATE",
        "accepted",
    ]


def test_a_conflict_keeps_the_accepted_event_known() -> None:
    # each conflict is newer than the last, and less than the lateness behind the watermark that
    # made the first one old
    log = numbered(
        [
            at(0, 1),
            at(4, 1, 1),
            at(8, 2),
            at(8, 1, 1),
            at(12, 3),
            at(11, 1),
            at(13.5, 4),
            at(13, 1),
            at(20, 5),
            at(20, 1),
        ]
    )
    expected = [
        "accepted",
        "ID_CONFLICT",
        "accepted",
        "ID_CONFLICT",
        "accepted",
        "accepted",  # two latenesses after the first: the conflicts keep it known for no longer
        "accepted",
        "ID_CONFLICT",
        "accepted",
        "accepted",
    ]
    for script in (
        [],
        [("poll", 3), ("commit", 0), ("poll", 2), ("commit", 0), ("poll", 2), ("crash", 0)],
        [(action, 1) for _ in log for action in ("poll", "commit", "crash")],
    ):
        run = Run(log).follow(script)
        assert outcomes(run) == expected
        agree(run)


def test_one_id_with_ever_new_content_pins_nothing_for_ever() -> None:
    log = numbered([at(second, 1, second, minute=second) for second in range(60)])
    run = Run(log)
    distances = []
    while run.rest:
        run.poll(1)
        run.commit()
        distances.append(run.committed[0].resume - run.committed[0].rewind)
    agree(run)
    # an offset per second: three latenesses, and how far notes stand apart
    assert max(distances) <= 3 * LATENESS // 1_000 + 2 * checkpoint.NOTE_EVERY


def test_a_conflict_that_outlives_its_event_is_no_payload_to_compare_with() -> None:
    log = numbered([at(0, 1), at(4, 1, 1), at(9, 2), at(9, 1, 1), at(9, 1, 1)])
    run = Run(log).follow([("poll", 1), ("commit", 0)] * 5)
    assert outcomes(run) == ["accepted", "ID_CONFLICT", "accepted", "ID_CONFLICT", "ID_CONFLICT"]
    agree(run)


def test_the_same_id_in_another_partition_is_another_event() -> None:
    log = numbered([at(0, 1), at(0, 1, partition=1), at(0, 1, 1, partition=2)])
    assert outcomes(Run(log).follow([])) == ["accepted"] * 3


def test_a_batch_without_records_changes_nothing() -> None:
    log = numbered([at(0, 1), at(0, 1)])
    run = Run(log).follow(
        [
            ("poll", 0),
            ("commit", 0),
            ("crash", 0),
            ("poll", 0),
            ("poll", 1),
            ("poll", 0),
            ("commit", 0),
        ]
    )
    assert outcomes(run) == ["accepted", "duplicate"]


def test_what_is_refused_moves_no_watermark() -> None:
    late = at(0, 9)
    future = Stored(
        0, 0, late.timestamp, value_of(3, late.timestamp + TOLERANCE + 1, 0, False), b"k"
    )
    invalid = Stored(0, 0, late.timestamp, value_of(4, NOON + 200_000, 0, True), b"k")
    log = numbered([at(3, 1), future, invalid, late, at(-2, 6), at(-2.001, 7)])
    assert outcomes(Run(log).follow([])) == [
        "accepted",
        "FUTURE_TIME",
        "INVALID",
        "accepted",
        "accepted",
        "LATE",
    ]


def test_an_event_at_the_very_tolerance_is_no_future() -> None:
    stamp = NOON + 300_000
    log = numbered(
        [Stored(0, 0, stamp, value_of(i, stamp + TOLERANCE + i, 0, False), b"k") for i in (0, 1)]
    )
    assert outcomes(Run(log).follow([])) == ["accepted", "FUTURE_TIME"]


def test_many_more_ids_than_the_table_holds_are_all_told_apart() -> None:
    count, keys = 200_000, KnownIds(LATENESS)
    ids = pl.Series([uuid(i) for i in range(count)])
    times, partitions = np.arange(count, dtype=np.int64), np.zeros(count, np.int32)
    for start in range(0, count, 10_000):
        rows = np.arange(start, start + 10_000)
        horizons = np.full(len(rows), start - 50_000)
        again = np.concatenate((rows, rows - 10_000)) if start else rows
        judged = keys.judge(
            Identified(
                keys_in_partitions(keys_of_ids(ids[again]), partitions[again]),
                again.astype(np.uint64),
                times[again],
                np.concatenate((horizons, horizons))[: len(again)],
                partitions[again],
                again,
            )
        )
        assert not judged.conflict.any()
        assert judged.duplicate.tolist() == [False] * 10_000 + [True] * (len(again) - 10_000)
        assert keys.oldest(0, start - 50_000) == max(0, start - 50_000)
