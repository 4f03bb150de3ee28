"""What running flows serve: every number of the list, equal to what is in the topics and tables;
and when they are red."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from contextlib import closing
from functools import partial

import psycopg
import pytest
from confluent_kafka import Producer

from flows.runtime.telemetry.names import METRIC_FAMILIES, Kind
from shopstream.supervise.process_log import event_of
from tests.support.scraping import Served, served
from tests.support.stack import FLOWS, SOURCES, Stack, wait_until
from tests.support.traffic import good_events, mixed
from tests.support.web_events import V2


def start_all(stack: Stack, **settings: str) -> dict[str, Served]:
    flows = {flow: served() for flow in FLOWS}
    for flow, at in flows.items():
        stack.start(flow, **at.settings, **settings)
    return flows


def settled(stack: Stack, flows: dict[str, Served]) -> None:
    """All is through, and the loops have come round once more."""
    stack.drain()
    for flow, at in flows.items():
        wait_until(f"{flow} to say that nothing waits", partial(nothing_waits, at))


def nothing_waits(flow: Served) -> bool:
    return flow.get("/healthz") == (200, "ok: nothing waits\n")


def test_what_flows_serve_is_what_is_in_topics_and_tables(stack: Stack) -> None:
    stack.produce(mixed(3_000))
    stack.produce([(b"k", b"junk")] * 3, "clean.web", 1)
    flows = start_all(stack)
    settled(stack, flows)
    verdicts = stack.verify()
    clean, metrics = flows["clean"], flows["metrics"]

    outcomes, codes = (
        Counter(v.outcome for v in verdicts.values()),
        Counter(v.code for v in verdicts.values() if v.code),
    )
    assert +clean.by("shopstream_records_total", "outcome") == outcomes
    assert +clean.by("shopstream_refused_total", "code") == codes
    assert clean.total("shopstream_batch_records_sum") == len(verdicts)
    assert +metrics.by("shopstream_records_total", "outcome") == {
        "accepted": outcomes["accepted"],
        "rejected": 3,
    }
    letters = len(stack.read("dead.letters"))
    assert +flows["deadletters"].by("shopstream_records_total", "outcome") == {"accepted": letters}
    assert +flows["quality"].by("shopstream_records_total", "outcome") == {
        "accepted": len(stack.read("tallies"))
    }

    for served_flow in (clean, metrics):
        assert served_flow.total("shopstream_event_latency_seconds_count") == outcomes["accepted"]
    for flow in ("metrics", "deadletters", "quality"):
        rows = {
            table: n
            for (name, labels), n in flows[flow].samples().items()
            if name == "shopstream_rows_total" and ("change", "inserted") in labels
            for table in [dict(labels)["table"]]
        }
        rows.pop("ops.checkpoints", None)  # each flow has its own rows there
        stored = {table: stack.query(f"SELECT count(*) FROM {table}")[0][0] for table in rows}
        assert rows == stored

    for flow, at in flows.items():
        topic = stack.topic(SOURCES[flow])
        expected = {n.name.removesuffix("_total") for n in METRIC_FAMILIES if flow in n.flows}
        assert expected <= at.families()
        assert {n.name.removesuffix("_total") for n in METRIC_FAMILIES} & at.families() == expected
        assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= at.families()
        assert set(at.by("shopstream_lag_records", "topic")) == {topic}
        assert at.total("shopstream_lag_records") == at.total("shopstream_lag_seconds") == 0
        labels = {
            n.name: {"flow", *n.labels} for n in METRIC_FAMILIES if n.kind is not Kind.HISTOGRAM
        }
        for name, pairs in at.samples():
            assert name not in labels or set(dict(pairs)) == labels[name]


def test_repeats_on_clean_web_are_counted_as_duplicates_and_rows_as_unchanged(stack: Stack) -> None:
    stack.produce([(e["visitor_id"].encode(), V2.frame(e)) for e in good_events(500)])
    clean = stack.start("clean", SHOPSTREAM_EPOCH_SECONDS="60")
    wait_until("clean to write", lambda: sum(stack.ends("clean.web").values()) == 500)
    stack.kill(clean)  # nothing was committed: the next one says it all again
    stack.start("clean")
    first = stack.start("metrics", SHOPSTREAM_EPOCH_SECONDS="60")
    wait_until(
        "all rows",
        lambda: (
            stack.query("SELECT coalesce(sum(events), 0)::int FROM gold.traffic_1m") == [(500,)]
        ),
    )
    stack.drain("clean")
    wait_until("the repeats", lambda: sum(stack.ends("clean.web").values()) == 1_000)
    stack.kill(first)
    # as of a database from before it told where a flow stands: all is read again
    stack.execute("DELETE FROM ops.checkpoints")
    metrics = served()
    stack.start("metrics", **metrics.settings)
    stack.drain("metrics")
    wait_until("its loop", lambda: metrics.healthy)
    assert +metrics.by("shopstream_records_total", "outcome") == {"accepted": 500, "duplicate": 500}
    changes = {
        dict(labels)["change"]
        for (series, labels), value in metrics.samples().items()
        if series == "shopstream_rows_total" and value
        if dict(labels)["table"] != "ops.checkpoints"
    }
    assert changes == {"unchanged"}, "the rows were there, and an equal one is not written again"


def test_a_restart_that_rebuilds_state_counts_only_news(stack: Stack) -> None:
    stack.produce(mixed(2_000, seed=1))
    first = stack.start("clean")
    stack.drain("clean")
    stack.kill(first)
    before = {
        p: place.offset - json.loads(place.metadata or "")["rewind"]
        for p, place in stack.committed("clean").items()
    }
    stack.produce(mixed(500, seed=2))
    clean = served()
    stack.start("clean", **clean.settings)
    stack.drain("clean")
    wait_until("its loop", partial(nothing_waits, clean))
    assert {
        int(p): n for p, n in clean.by("shopstream_rewind_records", "partition").items()
    } == before
    assert sum(before.values()) > 0
    assert clean.total("shopstream_rewind_seconds") > 0
    assert clean.total("shopstream_records_total") == len(mixed(500, seed=2))
    assert clean.total("shopstream_batch_records_sum") == sum(before.values()) + len(
        mixed(500, seed=2)
    )


def test_a_taken_port_ends_the_start_and_is_named(stack: Stack) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert stack.exit_of(stack.start("clean", SHOPSTREAM_TELEMETRY_PORT=str(port))) == 4
    last = event_of(stack.log("clean").splitlines()[-1])
    assert last is not None
    assert f"127.0.0.1:{port}: Address already in use" in last["error"]


def test_a_flow_that_waits_for_its_database_is_red_and_says_for_what(stack: Stack) -> None:
    at = served()
    stack.start(
        "metrics",
        DATABASE_URL="postgresql://127.0.0.1:1/none",
        SHOPSTREAM_STARTUP_SECONDS="15",
        **at.settings,
    )
    wait_until("it to serve", lambda: at.get("/healthz")[0] == 503)
    assert at.get("/healthz")[1].startswith("starting")
    wait_until("a retry", lambda: at.by("shopstream_retries_total", "target")["database"] > 1)


def test_a_flow_that_is_held_by_a_lock_turns_red_and_recovers(stack: Stack) -> None:
    """The writer waits for a lock that another session holds: nothing fails or gets on."""
    stack.start("clean")
    at = served()
    stack.start("metrics", SHOPSTREAM_STALL_SECONDS="2", **at.settings)
    stack.produce(mixed(500, seed=1))
    stack.drain("clean", "metrics")
    wait_until("green", lambda: at.healthy)
    topic = stack.topic("clean.web")
    with psycopg.connect(stack.database_url) as other:
        other.execute("LOCK TABLE gold.traffic_1m_by_partition IN ACCESS EXCLUSIVE MODE")
        stack.produce(mixed(300, seed=2))
        wait_until("red", lambda: at.stalled, 30)
        line = at.get("/healthz")[1]
        assert "at the flush of database, while" in line
        assert line.count("\n") == 1
        # its loop stands still, yet it says how far the topic goes on
        stack.produce(mixed(400, seed=3))
        stack.drain("clean")
        behind = sum(stack.ends("clean.web").values()) - sum(
            p.offset for p in stack.committed("metrics").values()
        )
        wait_until(
            "the true lag", lambda: at.by("shopstream_lag_records", "topic") == {topic: behind}
        )
        age = at.total("shopstream_lag_seconds")
        time.sleep(1)
        assert at.total("shopstream_lag_seconds") - age > 0.9
        assert at.total("shopstream_healthy") == 0
    wait_until("green again", lambda: at.healthy, 30)
    stack.drain("metrics")
    assert at.total("shopstream_healthy") == 1
    wait_until("both lines", lambda: turns(stack.log("metrics")) == ["unhealthy", "healthy"], 10)
    stack.start("quality"), stack.start("deadletters")
    stack.drain()
    stack.verify()


def turns(log: str) -> list[str]:
    names = [event["event"] for line in log.splitlines() if (event := event_of(line))]
    return [event for event in names if event in ("unhealthy", "healthy")]


@pytest.mark.services
def test_marks_of_transactions_and_records_of_open_ones_are_no_lag(stack: Stack) -> None:
    """Another shop's producer may write in transactions: their marks take offsets that no reader
    ever sees."""
    at = served()
    # longer than the client's statistics take, which tell that the rest is no record
    stack.start("clean", SHOPSTREAM_STALL_SECONDS="3", **at.settings)
    events = [V2.frame(e) for e in good_events(30)]
    producer = Producer(
        {"bootstrap.servers": stack.services.bootstrap, "transactional.id": stack.prefix}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in events[:10]:
        producer.produce(stack.topic("raw.web"), value, b"visitor")
    producer.commit_transaction(20)
    wait_until("the first", lambda: at.healthy and at.total("shopstream_records_total") == 10)
    wait_until("no lag", partial(nothing_waits, at))
    producer.begin_transaction()
    for value in events[10:20]:
        producer.produce(stack.topic("raw.web"), value, b"visitor")
    producer.flush(20)
    wait_until("no lag", partial(nothing_waits, at))
    for _ in range(5):
        time.sleep(1)  # longer than it takes to turn red
        assert at.healthy
    producer.abort_transaction(20)
    stack.produce([(b"visitor", value) for value in events[20:]])
    wait_until("the last", lambda: at.total("shopstream_records_total") == 20)
    wait_until("no lag", partial(nothing_waits, at))
