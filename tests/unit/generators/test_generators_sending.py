"""From a plan to a topic and a ledger: the open loop, the offsets, the command line."""

from __future__ import annotations

import io
import json
import struct
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import flows.domain.errors
from generators.__main__ import main
from generators.answer_key.oracle import VIEWS
from generators.config import RunPlan, Target
from generators.errors import ConfigError, LedgerError, ShopstreamError, UnreachableError
from generators.records import Records
from generators.runner import run
from generators.sending.encoding import murmur2, partition_of
from generators.sending.sender import Pacing, Progress, Sender, Tracker
from generators.sending.sinks import FileSink, KafkaSink, NullSink

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.flush(0)  # the broker lives as long as its producer


def stored(
    bootstrap: str, topic: str, count: int
) -> dict[tuple[int, int], tuple[bytes, bytes | None]]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "test",
            "log_level": 0,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 1_000_000,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(4)])
    records: dict[tuple[int, int], tuple[bytes, bytes | None]] = {}
    until = time.monotonic() + 20
    while len(records) < count and time.monotonic() < until:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None
            partition, offset, key = message.partition(), message.offset(), message.key()
            assert partition is not None
            assert offset is not None
            assert key is not None
            records[partition, offset] = (key, message.value())
    consumer.close()
    return records


# From Kafka's own UtilsTest.testMurmur2.
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_the_one_of_the_java_client(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_partitions_agree_with_librdkafka(broker: str) -> None:
    partitions: dict[bytes | None, int | None] = {}
    producer = Producer(
        {"bootstrap.servers": broker, "partitioner": "murmur2_random", "log_level": 0}
    )
    producer.list_topics("keys", timeout=10)
    for n in range(200):
        key = b"v-" + b"x" * (n % 7) + str(n).encode()
        producer.produce(
            "keys",
            b"",
            key,
            on_delivery=lambda _, message: partitions.update({message.key(): message.partition()}),
        )
    assert producer.flush(20) == 0
    assert len(partitions) == 200
    assert partitions == {key: partition_of(key or b"", 4) for key in partitions}


def test_what_is_stored_is_what_the_ledger_says(broker: str, tmp_path: Path) -> None:
    progress: list[Progress] = []
    plan = RunPlan(
        target=Target(bootstrap=broker, topic="ledger"),
        rate=2000,
        events=3000,
        speed=0,
        ledger=tmp_path,
    )
    report = run(plan, progress.append)
    rows = pq.read_table(tmp_path / "events.parquet").to_pylist()
    records = stored(broker, "ledger", len(rows))
    assert len(records) == len(rows) == report.sent > 3000
    for row in rows:
        _, value = records[row["partition"], row["offset"]]
        assert (None if value is None else blake2b(value, digest_size=16).digest()) == row[
            "payload_hash"
        ]
    assert {
        (p, o)
        for part in progress
        for p, o in zip(part.partition.tolist(), part.offset.tolist(), strict=True)
    } == set(records)
    assert progress[-1].acknowledged == progress[-1].sent == report.sent


def test_offsets_come_back_in_order(broker: str) -> None:
    sink = KafkaSink({"bootstrap.servers": broker}, "order", reported="all")
    count = 30_000
    partition = (np.arange(count) % 4).astype(np.int32)
    values: list[bytes | None] = [str(n).encode() for n in range(count)]
    records = Records([b"k"] * count, values, partition, np.zeros(count, dtype=np.int64), None)
    tracker = Tracker(4)
    Sender(sink, Pacing(0, scheduled=False), tracker, None, None).play([records])
    on_topic = stored(broker, "order", count)
    offsets = tracker.offsets_in_order()
    assert all(on_topic[n % 4, int(offsets[n])][1] == values[n] for n in range(count))


def test_a_broker_that_is_away_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.sending.sinks.CONNECT_SECONDS", 1.0)
    producer = Target(bootstrap="127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"KAFKA_BOOTSTRAP_SERVERS 127\.0\.0\.1:1"):
        run(RunPlan(target=producer, events=1))


class SlowSink(NullSink):
    def put(self, records: Records, first: int, last: int) -> None:
        time.sleep(0.05)
        super().put(records, first, last)


def test_an_open_loop_tells_how_far_it_is_behind() -> None:
    count = 200
    due = np.arange(count, dtype=np.int64) * 1000
    records = Records([b"k"] * count, [b""] * count, np.zeros(count, dtype=np.int32), due, None)
    progress: list[Progress] = []
    pacing = Pacing(time.time_ns() // 1000 - 1_000_000, scheduled=True)
    lag = Sender(SlowSink(), pacing, Tracker(4), progress.append, None).play([records])
    assert lag.max_ms >= 1000
    assert lag.p99_ms > 800
    scheduled = np.concatenate([part.scheduled_at_us for part in progress])
    assert np.diff(scheduled).tolist() == [1000] * (count - 1)


def test_a_run_keeps_to_its_schedule(tmp_path: Path) -> None:
    began = time.monotonic()
    report = run(
        RunPlan(target=Target(sink="null"), rate=500, duration_seconds=1.0, ledger=tmp_path)
    )
    assert 1.0 <= time.monotonic() - began < 5.0
    rows = pq.read_table(tmp_path / "events.parquet")
    scheduled = rows["scheduled_at"].to_pylist()
    assert scheduled == sorted(scheduled)
    assert all(
        sent >= due for sent, due in zip(rows["sent_at"].to_pylist(), scheduled, strict=True)
    )
    assert report.healthy == 500
    assert report.behind_max_ms > 0


def test_a_ledger_is_whole_and_counts_what_it_says(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    plan = RunPlan(
        target=Target(sink="null"),
        rate=100,
        events=4000,
        speed=0,
        start=START,
        ledger=ledger,
    )
    report = run(plan)
    manifest = json.loads((ledger / "manifest.json").read_text())
    rows = pq.read_table(ledger / "events.parquet").to_pylist()
    assert [row["seq"] for row in rows] == list(range(report.sent))
    assert manifest["events"] == report.sent
    counts = Counter(
        f"rejected {r['expected_code']}"
        if r["expected_outcome"] == "rejected"
        else r["expected_outcome"]
        for r in rows
    )
    assert manifest["counts"] == counts == report.counts
    assert (manifest["lateness_seconds"], manifest["query_cap"], manifest["start"]) == (
        60,
        10_000,
        START.isoformat(),
    )
    for view, (keys, values) in VIEWS.items():
        assert pq.read_table(ledger / "gold" / f"{view}.parquet").column_names == [
            *keys,
            *values,
        ]
    traffic = pq.read_table(ledger / "gold" / "traffic_1m.parquet")
    assert sum(traffic["events"].to_pylist()) == counts["accepted"]
    with pytest.raises(ConfigError, match="holds a ledger already"):
        run(plan)


def test_the_same_seed_and_start_give_the_same_payload_hash(tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        run(
            RunPlan(
                target=Target(sink="null"),
                events=2000,
                speed=0,
                start=START,
                ledger=tmp_path / name,
                scenario="normal",
            )
        )
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        hashes.append(manifest["payload_sha256"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("speed", [0.0, 1.0, 60.0])
def test_event_time_lies_never_in_the_future(tmp_path: Path, speed: float) -> None:
    run(
        RunPlan(
            target=Target(sink="null"),
            rate=2000,
            events=1000,
            speed=speed,
            scenario="perf",
            ledger=tmp_path,
        )
    )
    rows = pq.read_table(tmp_path / "events.parquet")
    times, sent = rows["event_time"].to_pylist(), rows["sent_at"].to_pylist()
    assert all(event <= at for event, at in zip(times, sent, strict=True))
    assert (times[-1] - times[0]).total_seconds() == pytest.approx(0.5 * (speed or 1), rel=0.01)


def test_a_start_whose_end_lies_in_the_future_is_refused() -> None:
    with pytest.raises(ConfigError, match="in the future"):
        run(RunPlan(target=Target(sink="null"), start=datetime(2098, 1, 1, tzinfo=UTC)))


def test_a_file_holds_partition_key_and_value(tmp_path: Path) -> None:
    out = io.BytesIO()
    sink = FileSink(out, "avro")
    sink.put(
        Records([b"k", b"kk"], [b"abc", None], np.array([1, 3], dtype=np.int32), np.zeros(2), None),
        0,
        2,
    )
    assert (
        out.getvalue()
        == struct.pack(">iii", 1, 1, 3) + b"kabc" + struct.pack(">iii", 3, 2, -1) + b"kk"
    )
    assert [new.tolist() for new in sink.acknowledged()] == [[], [0], [], [0]]


def test_json_lines_tell_events_and_unreadable_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert (
        main(
            [
                "run",
                "--events",
                "500",
                "--speed",
                "0",
                "--fault",
                "bad_magic=0.1",
                "--sink",
                "file",
                "--out",
                str(path),
                "--format",
                "json",
            ]
        )
        == 0
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["event"]["event_type"] for line in lines if "event" in line} >= {
        "PAGE_VIEW",
        "SEARCH",
    }
    assert any(line.get("value_base64") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--sink", "file"], "--sink file needs --out"),
        (["run", "--rate", "0"], "rate must be above 0"),
        (["run", "--fault", "late=2", "--sink", "null"], "between 0 and 1"),
        (["replay", "absent.csv"], "No such file"),
        (["run", "--events", "0"], "nothing to send"),
    ],
)
def test_wrong_options_end_with_2_and_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


def test_scenarios_and_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenarios"]) == 0
    assert main(["scenarios", "--faults"]) == 0
    shown = capsys.readouterr().out
    assert "flash_sale" in shown
    assert "rule:COUNTRY_SHAPE" in shown


@pytest.mark.parametrize(
    ("started_as", "shown"),
    [
        ("/somewhere/bin/shopstream-generate", "usage: shopstream-generate run "),
        ("/somewhere/generators/__main__.py", "usage: python -m generators run "),
    ],
)
def test_the_help_names_the_program_as_it_was_started(
    started_as: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [started_as, "run", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(shown)
    assert f"{shown.removeprefix('usage: ')}--rate 1000" in output  # the examples too


def test_it_runs_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--events", "5", "--speed", "0", "--sink", "file", "--out", "sent.avro"]
    monkeypatch.setattr("sys.argv", ["shopstream-generate", *arguments])
    assert main() == 0
    assert (tmp_path / "sent.avro").stat().st_size > 0


@pytest.mark.parametrize(
    ("error", "base", "exit_code"),
    [
        (ConfigError, flows.domain.errors.ConfigError, 2),
        (LedgerError, flows.domain.errors.PermanentError, 3),
        (UnreachableError, flows.domain.errors.TransientError, 4),
    ],
)
def test_errors_belong_to_the_tree_of_the_project(
    error: type[ShopstreamError], base: type[ShopstreamError], exit_code: int
) -> None:
    assert issubclass(error, base)
    assert error.exit_code == exit_code


def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOPSTREAM_ALLOWED_LATENESS_SECONDS", "soon")
    assert main(["run", "--sink", "null", "--events", "1"]) == 2
    assert "SHOPSTREAM_ALLOWED_LATENESS_SECONDS" in capsys.readouterr().err.upper()
