"""Laws of metrics: however clean.web is cut, repeated, or read again after a stop, the stored rows
are the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from flows.connectors.avro.readers import CleanReader
from flows.domain import checkpoint
from flows.domain.batch import Batch, Origin, Refusal
from flows.domain.checkpoint import Checkpoint
from flows.domain.counting import Counting, Windowing
from flows.domain.tables import COUNTED, GOLD, PROGRESS
from flows.domain.web import WEB
from tests.support import plain_oracle as oracle
from tests.support.web_events import CLEAN, CLEAN_BATCH, NOON, item, uuid
from tests.support.web_events import event as web_event

LATENESS, CAP = 5_000, 2
QUERIES = ("Shoes", " shoes ", "BOOTS", "hats", "(other)", "straße", "İ")


@pytest.fixture(scope="module", autouse=True)
def notes_in_mid_log() -> Iterator[None]:
    """Notes stand close together, so that logs as short as these have some."""
    with patch.object(checkpoint, "NOTE_EVERY", 6):
        yield


class Accepted(NamedTuple):
    """An accepted event: where it stood, and the choices that make it."""

    partition: int
    offset: int
    time: int
    choice: int
    number: int


@lru_cache(maxsize=50_000)
def clean_event(accepted: Accepted) -> dict[str, Any]:
    chance = random.Random(accepted.choice)
    kind = chance.choice(
        [
            "PAGE_VIEW",
            "SEARCH",
            "SEARCH",
            "SEARCH",
            "ADD_TO_CART",
            "CHECKOUT",
            "PURCHASE",
            "REFUND",
            "REMOVE_FROM_CART",
        ]
    )
    basket = [
        item(
            product_id=chance.choice(["p-1", "p-2"]),
            category=chance.choice(["a", "b"]),
            quantity=chance.randrange(1, 4),
            unit_price_minor=chance.choice([0, 1, 999, 10_000_000]),
        )
        for _ in range(chance.randrange(1, 4))
    ]
    changes: dict[str, Any] = {} if kind == "SEARCH" else {"items": basket}
    if kind == "SEARCH":
        changes |= {
            "search_query": chance.choice(QUERIES),
            "search_results": chance.choice([0, 5, None]),
        }
    clean = web_event(
        kind,
        event_id=uuid(accepted.choice),
        event_time=accepted.time,
        visitor_id=f"v-{accepted.partition}-{chance.randrange(3)}",
        shop_id=chance.choice(["main", "main", "outlet"]),
        country=chance.choice(["DE", "FR"]),
        **changes,
    )
    if kind in ("PURCHASE", "REFUND"):
        clean |= {
            "currency": chance.choice(["EUR", "GBP"]),
            "discount_minor": None,
            "tax_minor": 3,
            "shipping_minor": chance.choice([None, 7]),
        }
    source = {
        "source_partition": accepted.partition,
        "source_offset": accepted.offset,
        "source_timestamp": accepted.time,
        "accepted": accepted.number,
    }
    return clean | source


def accepted_of(plan: list[tuple[int, float, int]], pace: float) -> list[Accepted]:
    """Events as clean lets them through: none more than the lateness behind its partition."""
    marks: dict[int, int] = {}
    accepted: list[Accepted] = []
    for i, (partition, second, choice) in enumerate(plan):
        time = max(round(NOON + 1_000 * (i * pace + second)), marks.get(partition, 0) - LATENESS)
        marks[partition] = max(marks.get(partition, 0), time)
        number = 1 + sum(a.partition == partition for a in accepted)
        accepted.append(Accepted(partition, 100 + 3 * i, time, choice, number))
    return accepted


class Repeat(NamedTuple):
    """A restart of clean: at the given event it goes back by so many, and says them again."""

    at: int
    back: int


def topic_of(
    accepted: list[Accepted], repeats: list[Repeat], size: int
) -> list[tuple[int, int, bytes]]:
    """Records of clean.web (partition, offset, value), each with up to `size` events; size 0 is the
    plain form."""
    order = list(accepted)
    for place, back in sorted(
        ((r.at % (len(accepted) + 1), r.back) for r in repeats), reverse=True
    ):
        order[place:place] = accepted[max(0, place - back) : place]
    records: list[tuple[int, bytes]] = []
    if size == 0:
        records = [(a.partition, CLEAN.frame(clean_event(a))) for a in order]
    else:
        for start in range(0, len(order), size):
            part = order[start : start + size]
            for p in sorted({a.partition for a in part}):
                records.append(
                    (
                        p,
                        CLEAN_BATCH.frame(
                            {"events": [clean_event(a) for a in part if a.partition == p]}
                        ),
                    )
                )
    offsets: dict[int, int] = {}
    topic = []
    for p, value in records:
        offsets[p] = offsets.get(p, 10 * p - 1) + 1
        topic.append((p, offsets[p], value))
    return topic


@dataclass
class Run:
    """A metrics process over the topic, and the tables it writes."""

    topic: list[tuple[int, int, bytes]]
    cap: int = CAP
    tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(
        default_factory=lambda: {t.name: {} for t in (*GOLD.values(), PROGRESS, COUNTED)}
    )
    refused: list[Refusal] = field(default_factory=list)
    crashes: int = 0

    def __post_init__(self) -> None:
        firsts: dict[int, int] = {}
        for p, offset, _ in self.topic:
            firsts.setdefault(p, offset)
        self.committed = {p: Checkpoint(first, first) for p, first in firsts.items()}
        self.start()

    def start(self) -> None:
        lateness = timedelta(milliseconds=LATENESS)
        self.counting = Counting(WEB, Origin("metrics", "raw.web"), Windowing(lateness, self.cap))
        self.reader = CleanReader(WEB)
        for p, place in self.committed.items():
            self.counting.restore(p, place)
        self.rest = [r for r in self.topic if r[1] >= self.committed[r[0]].rewind]

    def poll(self, count: int) -> None:
        records, self.rest = self.rest[:count], self.rest[count:]
        partition, offset = (
            np.array([r[0] for r in records], np.int32),
            np.array([r[1] for r in records], np.int64),
        )
        payload = pa.array([r[2] for r in records], pa.binary())
        read = self.reader.read(Batch(partition, offset, offset, payload, payload, True))
        read = self.counting.admit(read)
        self.refused += read.refused
        self.counting.count(read)

    def flush(self) -> None:
        """Upsert: a stored row is replaced only by a higher guard."""
        for rows in self.counting.take():
            table, stored = rows.table, self.tables[rows.table.name]
            assert rows.frame.columns == list(table.columns)
            for row in rows.frame.iter_rows(named=True):
                assert table.guard is not None
                key = tuple(row[k] for k in table.keys)
                if key not in stored or row[table.guard] > stored[key][table.guard]:
                    stored[key] = {c: row[c] for c in table.columns if c not in table.keys}

    def commit(self) -> None:
        self.flush()
        self.committed |= self.counting.checkpoints()

    def crash(self) -> None:
        self.crashes += 1
        self.start()

    def follow(self, script: list[tuple[str, int]]) -> Run:
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

    def gold(self) -> dict[str, dict[tuple[Any, ...], dict[str, int]]]:
        """In the oracle's words: times as numbers, zeros left out."""
        return {
            metric: {
                (int(key[0].timestamp() * 1000), *key[1:]): {m: n for m, n in row.items() if n}
                for key, row in self.tables[table.name].items()
            }
            for metric, table in GOLD.items()
        }


PLANS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from([*range(-8, 4), 30, -4.999, 0.001]), st.integers(0, 500)
    ),
    max_size=40,
)
REPEATS = st.lists(st.builds(Repeat, st.integers(0, 60), st.integers(1, 20)), max_size=3)
SCRIPTS = st.lists(
    st.tuples(st.just("poll"), st.integers(0, 9))
    | st.tuples(st.sampled_from(["commit", "commit", "flush", "crash"]), st.just(0)),
    max_size=30,
)
Made = tuple[list[tuple[int, float, int]], list[Repeat], list[tuple[str, int]]]


def by_chance(seed: int) -> Made:
    """Longer ones than hypothesis likes to draw."""
    chance = random.Random(seed)
    plan: list[tuple[int, float, int]] = [
        (chance.randrange(3), chance.randrange(-8, 4), chance.randrange(500))
        for _ in range(chance.randrange(10, 90))
    ]
    repeats = [
        Repeat(chance.randrange(90), chance.randrange(1, 30)) for _ in range(chance.randrange(4))
    ]
    actions = ["poll"] * 4 + ["commit"] * 2 + ["flush", "crash"]
    return (
        plan,
        repeats,
        [(chance.choice(actions), chance.randrange(10)) for _ in range(chance.randrange(3, 40))],
    )


@pytest.mark.slow
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.tuples(PLANS, REPEATS, SCRIPTS) | st.integers(0, 2**32).map(by_chance),
    st.sampled_from([0.2, 3, 20]),
    st.sampled_from([0, 0, 1, 5]),
)
def test_any_batching_any_repeat_and_any_restart_gives_the_same_rows(
    drawn: Made, pace: float, size: int
) -> None:
    plan, repeats, script = drawn
    accepted = accepted_of(plan, pace)
    expected = oracle.gold([(a.partition, clean_event(a)) for a in accepted], CAP)
    run = Run(topic_of(accepted, repeats, size)).follow(script)
    assert run.gold() == expected
    last = {a.partition: a for a in accepted}
    progress = {key[-1]: row["source_offset"] for key, row in run.tables[PROGRESS.name].items()}
    assert progress == {p: a.offset for p, a in last.items()}
    numbers = {key[-1]: row["accepted"] for key, row in run.tables[PROGRESS.name].items()}
    assert numbers == {p: a.number for p, a in last.items()}
    in_minutes = Counter((a.partition, a.time // 60_000 * 60_000) for a in accepted)
    assert in_minutes == {
        (key[3], int(key[0].timestamp() * 1000)): row["events"]
        for key, row in run.tables[COUNTED.name].items()
    }
    event(f"crashes: {min(run.crashes, 3)}")
    event(f"(other): {any(key[-1] == '(other)' for key in expected['searches_1m'])}")


def searches(*queries: str, partition: int = 0) -> list[tuple[int, int, bytes]]:
    events = []
    for i, query in enumerate(queries):
        source = {
            "source_partition": partition,
            "source_offset": i,
            "source_timestamp": NOON,
            "accepted": i + 1,
        }
        events.append((partition, i, CLEAN.frame(web_event("SEARCH", search_query=query) | source)))
    return events


def counted(run: Run) -> dict[str, int]:
    return {key[-1]: row["searches"] for key, row in run.gold()["searches_1m"].items()}


def test_queries_past_the_cap_are_other_whoever_came_later() -> None:
    run = Run(searches("a", "b", "c", "A ", "d", "b")).follow([("poll", 6)])
    assert counted(run) == {"a": 2, "b": 2, "(other)": 2}


def test_a_query_called_other_takes_its_place_like_any() -> None:
    assert counted(Run(searches("(other)", "a", "b")).follow([])) == {"(other)": 2, "a": 1}
    assert counted(Run(searches("a", "b", "(other)", "c")).follow([])) == {
        "a": 1,
        "b": 1,
        "(other)": 2,
    }


def test_the_cap_is_of_each_partition_and_window() -> None:
    topic = [*searches("a", "b"), *searches("c", "d", partition=1)]
    assert counted(Run(topic).follow([])) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_a_restart_remembers_which_queries_came_first() -> None:
    run = Run(searches("a", "b", "c", "a", "c")).follow([("poll", 3), ("commit", 0), ("crash", 0)])
    assert counted(run) == {"a": 2, "b": 1, "(other)": 2}


def test_a_commit_while_windows_are_still_being_rebuilt_forgets_nothing() -> None:
    topic = [*searches("a", "a"), *searches("b", "b", partition=1)]
    topic = [topic[0], topic[2], topic[1], topic[3]]
    run = Run(topic).follow(
        [("poll", 2), ("commit", 0), ("crash", 0), ("poll", 1), ("commit", 0), ("crash", 0)]
    )
    assert counted(run) == {"a": 2, "b": 2}


def test_two_writers_of_clean_at_once_are_counted_once() -> None:
    once = searches("a", "b", "a", "b")
    both = [once[0], once[1], once[0], once[2], once[1], once[2], once[3], once[3]]
    topic = [(0, i, value) for i, (_, _, value) in enumerate(both)]
    assert counted(Run(topic).follow([("poll", 3)])) == {"a": 2, "b": 2}


@pytest.mark.slow
def test_windows_that_are_over_are_freed() -> None:
    accepted = [Accepted(0, i, NOON + i * 100, i % 400, i + 1) for i in range(30_000)]
    run = Run(topic_of(accepted, [], 500))
    while run.rest:
        run.poll(1)
        run.flush()
    assert run.gold() == oracle.gold([(a.partition, clean_event(a)) for a in accepted], CAP)
    # 50 minutes went by; a window closes a lateness after its end, and half of what is kept may be
    # over
    assert sum(run.counting.sizes().values()) < 0.2 * sum(len(rows) for rows in run.gold().values())


def test_money_of_a_large_batch_is_exact() -> None:
    dearest = [item(quantity=100_000, unit_price_minor=10_000_000)]
    source = {"source_partition": 0, "source_timestamp": NOON}
    events = [
        web_event(items=dearest, discount_minor=0)
        | source
        | {"source_offset": i, "accepted": i + 1}
        for i in range(3_000)
    ]
    run = Run([(0, i, CLEAN.frame(e)) for i, e in enumerate(events)]).follow([("poll", 3_000)])
    (row,) = run.gold()["orders_1m"].values()
    assert (row["orders"], row["units"], row["gross_minor"]) == (3_000, 300_000_000, 3_000 * 10**12)


@pytest.mark.parametrize("size", [0, 3])
def test_an_event_of_another_partition_is_refused_not_counted(size: int) -> None:
    astray = Accepted(1, 5, NOON, 1, 1)
    (_, _, value), *_ = topic_of([astray], [], size)
    run = Run([(0, 0, value)]).follow([])
    assert not any(run.gold().values())
    assert len(run.refused) == 1


def test_an_empty_poll_is_no_event() -> None:
    run = Run(searches("a")).follow(
        [("poll", 0), ("flush", 0), ("poll", 1), ("poll", 0), ("commit", 0)]
    )
    assert counted(run) == {"a": 1}
