"""How a flow starts and stops: wrong settings, missing topics, services that are away. One line,
one exit code."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from flows.runtime import launch
from shopstream.kafka import topics
from tests.support.stack import PARTITIONS, Stack, wait_until
from tests.support.traffic import mixed
from tests.support.web_events import V2, event, uuid

# nobody answers there: settings are looked at before any connection
RIGHT = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}


def last_line(stack: Stack, flow: str) -> str:
    return stack.log(flow).strip().splitlines()[-1]


WRONG = [
    ("SHOPSTREAM_ALLOWED_LATENES_SECONDS", "60", "SHOPSTREAM_ALLOWED_LATENESS_SECONDS"),
    ("SHOPSTREAM_NO_SUCH_THING", "1", "no setting"),
    ("SHOPSTREAM_ALLOWED_LATENESS_SECONDS", "soon", "'soon'"),
    ("SHOPSTREAM_ALLOWED_LATENESS_SECONDS", "-1", "'-1'"),
    ("SHOPSTREAM_CLEAN_FORM", "both", "'both'"),
    ("SHOPSTREAM_ORDINAL", "1", "SHOPSTREAM_COUNT=1"),
    ("SHOPSTREAM_FUTURE_TOLERANCE_SECONDS", "61", "SHOPSTREAM_ALLOWED_LATENESS_SECONDS=60"),
    ("SHOPSTREAM_RETENTION_1H_DAYS", "10", "SHOPSTREAM_RETENTION_1M_DAYS=0 (all)"),
    ("DATABASE_URL", "mysql://x", "DATABASE_URL"),
    ("SCHEMA_REGISTRY_URL", "ftp://x", "SCHEMA_REGISTRY_URL"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
def test_a_wrong_setting_ends_the_start_with_one_line_that_names_it(
    name: str,
    value: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a process of its own for each one, which would take a second."""
    monkeypatch.setattr(sys, "argv", ["launch", "clean"])
    for variable, right in RIGHT.items():
        monkeypatch.setenv(variable, right)
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        launch.main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(name)
    assert says in line


def test_all_wrong_settings_are_told_at_once(stack: Stack) -> None:
    process = stack.start(
        "quality", SHOPSTREAM_COUNT="0", SHOPSTREAM_EPOC_SECONDS="1", SHOPSTREAM_POLL_SECONDS="x"
    )
    assert stack.exit_of(process) == 2
    names = {line.split("=")[0].split(" ")[0] for line in stack.log("quality").strip().splitlines()}
    assert names == {"SHOPSTREAM_COUNT", "SHOPSTREAM_EPOC_SECONDS", "SHOPSTREAM_POLL_SECONDS"}


@pytest.mark.services
def test_a_missing_topic_is_named(stack: Stack) -> None:
    missing = stack.topic("nowhere")
    process = stack.start("clean", SHOPSTREAM_TOPIC_RAW_WEB=missing)
    assert stack.exit_of(process) == 3
    assert f"topic {missing} does not exist" in last_line(stack, "clean")


@pytest.mark.services
def test_topics_are_made_once_and_mended(stack: Stack) -> None:
    settings = stack.settings()
    assert topics.ensure(settings, 4) == []
    raw = next(t for t in topics.wanted(settings, 4) if t.name == settings.topic("topic_raw_web"))
    assert raw.settings["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize("flow", ["metrics", "deadletters", "quality"])
def test_a_database_that_is_away_is_said_and_not_waited_for_forever(
    stack: Stack, flow: str
) -> None:
    started = time.monotonic()
    process = stack.start(
        flow, DATABASE_URL="postgresql://127.0.0.1:1/none", SHOPSTREAM_STARTUP_SECONDS="1"
    )
    assert stack.exit_of(process) == 4
    assert time.monotonic() - started < 1 + 15
    assert "database" in last_line(stack, flow)


def test_a_broker_that_is_away_is_said_and_not_waited_for_forever(stack: Stack) -> None:
    started = time.monotonic()
    process = stack.start(
        "clean", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", SHOPSTREAM_STARTUP_SECONDS="1"
    )
    assert stack.exit_of(process) == 4
    assert time.monotonic() - started < 1 + 15
    assert "127.0.0.1:1 does not answer" in last_line(stack, "clean")


def test_a_database_that_does_not_exist_is_named(stack: Stack) -> None:
    process = stack.start(
        "metrics", DATABASE_URL=stack.database_url.replace(stack.prefix, "no_such_database")
    )
    assert stack.exit_of(process) == 3
    assert "no_such_database" in last_line(stack, "metrics")


def test_a_database_that_was_never_migrated_says_so(stack: Stack) -> None:
    stack.execute("DROP SCHEMA gold CASCADE")
    stack.produce(mixed(100))
    stack.start("clean")
    assert stack.exit_of(stack.start("metrics")) == 3
    assert "gold" in last_line(stack, "metrics")


def test_a_column_that_is_dropped_while_running_stops_the_flow_and_is_named(stack: Stack) -> None:
    stack.start("clean")
    process = stack.start("metrics")
    stack.produce(mixed(300, seed=1))
    wait_until(
        "the first gold row", lambda: stack.query("SELECT count(*) FROM gold.orders_1m") != [(0,)]
    )
    stack.execute("ALTER TABLE gold.orders_1m_by_partition DROP COLUMN tax_minor CASCADE")
    stack.produce(mixed(300, seed=2))
    assert stack.exit_of(process) == 3
    assert "tax_minor" in last_line(stack, "metrics")


def test_an_idle_flow_stops_at_once(stack: Stack) -> None:
    flows = stack.start_all()
    stack.wait_until_reading()
    started = time.monotonic()
    assert stack.terminate(*flows.values()) == [0] * 4
    assert time.monotonic() - started < 10


def test_launch_says_what_it_takes() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flows.runtime.launch", "everything"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 1
    assert "clean,metrics,deadletters,quality" in result.stderr


@pytest.mark.services
def test_a_raw_topic_that_producers_stamp_is_refused_unless_that_is_wanted(stack: Stack) -> None:
    topic = stack.topic("raw.web")
    admin = AdminClient(stack.settings().kafka.quiet_client())
    entry = ConfigEntry(
        "message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(20)
    assert stack.exit_of(stack.start("clean")) == 3
    assert f"topic {topic}: message.timestamp.type is CreateTime" in last_line(stack, "clean")
    stack.start("clean", SHOPSTREAM_PRODUCER_TIMESTAMPS="trust")
    wait_until("clean to read", lambda: stack.is_reading("clean"))


@pytest.mark.services
def test_metrics_with_a_smaller_lateness_than_clean_s_stops(stack: Stack) -> None:
    now = time.time_ns() // 1_000_000
    times = [now - 60_000, now - 10_000, now - 60_000]
    stack.produce(
        [
            (b"v", V2.frame(event(event_id=uuid(i), event_time=at, visitor_id="v")))
            for i, at in enumerate(times)
        ]
    )
    stack.start("clean")
    stack.drain("clean")
    narrow = {"SHOPSTREAM_ALLOWED_LATENESS_SECONDS": "20"}
    assert stack.exit_of(stack.start("metrics", **narrow)) == 3
    assert "SHOPSTREAM_ALLOWED_LATENESS_SECONDS alike for both" in last_line(stack, "metrics")
    stack.start("metrics")
    wait_until(
        "all three", lambda: stack.query("SELECT sum(events)::int FROM gold.traffic_1m") == [(3,)]
    )


@pytest.mark.services
def test_partitions_that_are_added_are_read_after_a_restart(stack: Stack) -> None:
    process = stack.start("deadletters")
    wait_until("deadletters to read", lambda: stack.is_reading("deadletters"))
    topic = stack.topic("dead.letters")
    admin = AdminClient({"bootstrap.servers": stack.services.bootstrap})
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(20)
    assert stack.exit_of(process, 60) == 4
    assert f"topic {topic} has new partitions ({PARTITIONS})" in stack.log("deadletters")
    stack.produce([(b"k", b"no letter")], "dead.letters", partition=PARTITIONS)
    stack.start("deadletters")
    wait_until(
        "the record of the new partition",
        lambda: stack.query("SELECT count(*) FROM quality.dead_letters") == [(1,)],
    )
