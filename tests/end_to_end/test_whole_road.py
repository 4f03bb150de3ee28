"""All four flows as processes, from raw bytes to rows: every number against the plain oracle and
the second opinion."""

from __future__ import annotations

import subprocess
from collections import Counter

from flows.registry import FLOWS
from tests.support.stack import Stack, wait_until
from tests.support.traffic import mixed
from tests.support.web_events import CLEAN, LETTER, OUTCOME, V2, event

EVERYTHING = {
    "accepted",
    "duplicate",
    "LATE",
    "INVALID",
    "FUTURE_TIME",
    "TRUNCATED",
    "TRAILING_BYTES",
    "BAD_MAGIC",
    "UNKNOWN_SCHEMA",
    "BAD_UTF8",
    "NOT_AVRO",
    "EMPTY",
    "TOO_LARGE",
    "ID_CONFLICT",
}


def test_a_log_with_every_fault_becomes_the_right_rows(stack: Stack) -> None:
    stack.produce(mixed(5_000))
    flows = stack.start_all()
    stack.drain()
    verdicts = stack.verify()
    assert {v.code or v.outcome for v in verdicts.values()} == EVERYTHING
    stack.recount()
    assert stack.terminate(*flows.values()) == [0, 0, 0, 0]
    totals = stack.query(
        "SELECT outcome, sum(records)::int FROM quality.outcomes_1m GROUP BY outcome"
    )
    assert dict(totals) == Counter(v.outcome for v in verdicts.values())


def test_what_is_asked_to_stop_drains_and_commits(stack: Stack) -> None:
    stack.produce(mixed(3_000))
    flows = stack.start_all(SHOPSTREAM_EPOCH_SECONDS="60")  # no commit but the last one
    wait_until(
        "the first gold row", lambda: stack.query("SELECT count(*) FROM gold.traffic_1m") != [(0,)]
    )
    assert stack.terminate(flows["clean"]) == [0]
    ended = {p: place.offset for p, place in stack.committed("clean").items()}
    # what clean has committed is on its topics, so the others can be asked to stop when they have
    # read those
    stack.terminate(*(flows[f] for f in ("metrics", "quality", "deadletters")))
    stack.start("clean")
    stack.drain("clean")
    assert all(place.offset >= ended[p] for p, place in stack.committed("clean").items())
    sent_again = Counter(
        (e["source_partition"], e["source_offset"])
        for r in stack.read("clean.web")
        for e in [CLEAN.read(r.value or b"")]
    )
    assert set(sent_again.values()) == {1}
    for flow in ("metrics", "quality", "deadletters"):
        stack.start(flow)
    stack.drain()
    stack.verify()


def test_a_batch_of_events_a_record_gives_the_same_rows(stack: Stack) -> None:
    stack.produce(mixed(3_000, seed=3))
    stack.start_all(SHOPSTREAM_CLEAN_FORM="batch")
    stack.drain()
    verdicts = stack.verify()
    assert (
        len(stack.read("clean.web")) < sum(v.outcome == "accepted" for v in verdicts.values()) / 10
    )
    stack.recount()


def start_two_of_each(stack: Stack) -> list[subprocess.Popen[bytes]]:
    """Two processes that share the partitions, of each flow that can have more than one."""
    return [
        stack.start(flow.name, SHOPSTREAM_COUNT=str(count), SHOPSTREAM_ORDINAL=str(ordinal))
        for flow in FLOWS
        for count in (2 if flow.scales else 1,)
        for ordinal in range(count)
    ]


def test_the_number_of_processes_can_change_at_a_restart(stack: Stack) -> None:
    """The two that share the partitions give the rows of one."""
    stack.produce(mixed(2_000, seed=5))
    first = stack.start_all().values()
    stack.drain("clean")
    for process in first:
        stack.kill(process)
    stack.produce(mixed(2_000, seed=6))
    start_two_of_each(stack)
    stack.drain()
    stack.verify()
    stack.recount()


def test_a_small_cap_of_queries_is_kept(stack: Stack) -> None:
    stack.produce(mixed(2_000, seed=7))
    stack.start_all(SHOPSTREAM_QUERY_CAP="1")
    stack.drain()
    stack.verify(cap=1)
    assert stack.query("SELECT count(*) > 0 FROM gold.searches_1m WHERE query = '(other)'") == [
        (True,)
    ]


GARBAGE = (
    None,
    b"",
    b"junk",
    b"\xc3\x01",
    b"\xc3\x01" + b"?" * 30,
    b"\0\0\0\0\x01abc",
    CLEAN.header + b"\xff" * 20,
    LETTER.header,
    OUTCOME.header + b"\x08ab",
)


def test_garbage_on_our_own_topics_stops_nothing(stack: Stack) -> None:
    ours = ("clean.web", "tallies", "dead.letters")
    flows = stack.start_all()
    for part in (mixed(500, seed=8), []):
        for topic in ours:
            stack.produce([(b"k", value) for value in GARBAGE], topic, partition=1)
        stack.produce(part)
    stack.drain()
    assert [process.poll() for process in flows.values()] == [None] * 4
    for topic in ours:
        rows = stack.query(
            "SELECT payload FROM quality.dead_letters WHERE source_topic = %s AND"
            " source_partition = 1",
            stack.topic(topic),
        )
        assert Counter(payload for (payload,) in rows) == Counter(list(GARBAGE) * 2), topic
    stack.verify()


def test_nearly_everything_refused_stops_clean_with_the_commonest_code(stack: Stack) -> None:
    stack.produce([(b"k", b"garbage")] * 700 + [(b"k", b"\xc3\x01")] * 400, partition=0)
    process = stack.start(
        "clean", SHOPSTREAM_REJECT_BUDGET_RATIO="0.95", SHOPSTREAM_REJECT_BUDGET_RECORDS="1000"
    )
    assert stack.exit_of(process) == 3
    assert "BAD_MAGIC" in stack.log("clean").splitlines()[-1]
    assert "TRUNCATED" not in stack.log("clean").splitlines()[-1]


def test_a_record_that_the_database_would_refuse_is_refused_by_a_rule(stack: Stack) -> None:
    bad = [
        event("SEARCH", search_query="a\0b"),
        event(shop_id="x\0"),
        event(event_time=2**62),
        event(tax_minor=2**63 - 1),
    ]
    stack.produce([(b"k", V2.frame(e)) for e in bad])
    flows = stack.start_all()
    stack.drain()
    assert [process.poll() for process in flows.values()] == [None] * 4
    assert {v.code for v in stack.verify().values()} == {"INVALID", "FUTURE_TIME"}
    told = "event_type, amount_minor, amount_currency, count(*)"
    assert stack.query(f"SELECT {told} FROM quality.dead_letters GROUP BY 1, 2, 3 ORDER BY 1") == [
        ("PURCHASE", 2_500, "EUR", 3),
        ("SEARCH", None, None, 1),
    ]
    assert stack.query("SELECT count(*) FROM gold.traffic_1m") == [(0,)]


def test_a_supervisor_that_starts_clean_again_does_not_empty_the_topic(stack: Stack) -> None:
    stack.produce([(b"k", b"garbage %d" % i) for i in range(6_000)], partition=0)
    budget = {"SHOPSTREAM_REJECT_BUDGET_RATIO": "0.9", "SHOPSTREAM_REJECT_BUDGET_RECORDS": "1000"}
    # an epoch a batch: a fast machine reads a thousand records in less than a longer one
    short = {"SHOPSTREAM_BATCH_RECORDS": "100", "SHOPSTREAM_EPOCH_SECONDS": "0.001"}
    for _ in range(4):
        assert stack.exit_of(stack.start("clean", **budget, **short)) == 3
    letters = {(letter.partition, letter.value) for letter in stack.read("dead.letters")}
    assert 0 < len(letters) < 1_000
    assert stack.committed("clean")[0].offset < 1_000
