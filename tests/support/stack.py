"""A pipeline of one test: its topics, groups and database, its flows as processes, and a count of
what came out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from database.migrate import migrate
from flows.runtime.paths import ROOT
from flows.runtime.settings import Settings, load_settings
from shopstream.demo.dev_services import Services, drop_database
from shopstream.kafka import topics
from tests.support import plain_oracle as oracle
from tests.support.plain_oracle import Stored, Verdict
from tests.support.web_events import CLEAN, CLEAN_BATCH, LETTER

RECOUNT = ROOT.parent / "shared" / "accept" / "recount.py"
FLOWS = (
    "clean",
    "metrics",
    "quality",
    "deadletters",
)  # in this order nothing that is behind can refill what was drained
SOURCES = {
    "clean": "raw.web",
    "metrics": "clean.web",
    "quality": "tallies",
    "deadletters": "dead.letters",
}
GOLD = ("traffic_1m", "orders_1m", "sales_1m", "products_1m", "searches_1m")
PARTITIONS = 4
Raw = tuple[bytes | None, bytes | None]
"""Key and value of a record to produce."""


def wait_until(what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Ask again and again, for as long as it may take; the deadline is for what never comes."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


@dataclass
class Stack:
    services: Services
    database_url: str
    prefix: str
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    consumers: dict[str, Consumer] = field(default_factory=dict)

    def settings(self) -> Settings:
        with patch.dict(os.environ, self.environment):
            return load_settings()

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    # processes

    def start(self, flow: str, **settings: str) -> subprocess.Popen[bytes]:
        """Run a flow; its log is shown when the test fails."""
        return self.run(flow, [sys.executable, "-m", "flows.runtime.launch", flow], **settings)

    def run(
        self, log: str, command: list[str], folder: Path = ROOT, **settings: str
    ) -> subprocess.Popen[bytes]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
        with (self.folder / f"{log}.log").open("ab") as out:
            process = subprocess.Popen(
                command,
                env=inherited | self.environment | settings,
                cwd=folder,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)
        return process

    def start_all(self, **settings: str) -> dict[str, subprocess.Popen[bytes]]:
        return {flow: self.start(flow, **settings) for flow in FLOWS}

    def log(self, flow: str) -> str:
        return (self.folder / f"{flow}.log").read_text()

    def terminate(self, *processes: subprocess.Popen[bytes]) -> list[int]:
        """SIGTERM, and the exit codes."""
        for process in processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(30) for process in processes]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def exit_of(self, process: subprocess.Popen[bytes], seconds: float = 40.0) -> int:
        return process.wait(seconds)

    # topics

    def produce(
        self, records: Iterable[Raw], topic: str = "raw.web", partition: int | None = None
    ) -> None:
        """Write records and wait for all acknowledgements."""
        failed: list[KafkaError] = []
        producer = Producer(
            {
                "bootstrap.servers": self.services.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "log_level": 0,
                "message.max.bytes": 2_000_000,
            }
        )
        place = {} if partition is None else {"partition": partition}
        for key, value in records:
            producer.produce(
                self.topic(topic),
                value,
                key,
                on_delivery=lambda error, _: failed.append(error) if error else None,
                **place,
            )
            producer.poll(0)
        assert producer.flush(30) == 0
        assert failed == []

    def ends(self, topic: str) -> dict[int, int]:
        """Partition -> offset after the last record."""
        places = [TopicPartition(self.topic(topic), p) for p in range(PARTITIONS)]
        return {
            place.partition: self.consumer("reader").get_watermark_offsets(place, timeout=10)[1]
            for place in places
        }

    def consumer(self, group: str) -> Consumer:
        if group not in self.consumers:
            self.consumers[group] = Consumer(
                {
                    "bootstrap.servers": self.services.bootstrap,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "log_level": 0,
                    "auto.offset.reset": "error",
                    "fetch.message.max.bytes": 4_194_304,
                    "fetch.queue.backoff.ms": 1,
                }
            )
        return self.consumers[group]

    def committed(self, flow: str) -> dict[int, TopicPartition]:
        places = [TopicPartition(self.topic(SOURCES[flow]), p) for p in range(PARTITIONS)]
        found = self.consumer(f"{self.prefix}.{flow}").committed(places, timeout=10)
        return {place.partition: place for place in found}

    def is_drained(self, flow: str) -> bool:
        committed = self.committed(flow)
        return all(
            max(committed[p].offset, 0) == end for p, end in self.ends(SOURCES[flow]).items()
        )

    def drain(self, *flows: str, seconds: float = 60.0) -> None:
        """Wait until everything that was produced is in the outputs; a flow that ends before is a
        failure."""
        for flow in flows or FLOWS:
            wait_until(f"{flow} to drain", lambda flow=flow: self.is_drained(flow), seconds)  # type: ignore[misc]

    def read(self, topic: str) -> list[Stored]:
        """All records of a topic, by partition and offset."""
        ends = {p: end for p, end in self.ends(topic).items() if end}
        found = []
        consumer = self.consumer("reader")
        consumer.assign([TopicPartition(self.topic(topic), p, 0) for p in ends])
        at = dict.fromkeys(ends, 0)
        until = time.monotonic() + 30
        while at != ends:
            assert time.monotonic() < until, f"{topic} stays at {at} of {ends}"
            for m in consumer.consume(10_000, 0.2):
                assert m.error() is None, m.error()
                at[m.partition()] = m.offset() + 1
                found.append(
                    Stored(m.partition(), m.offset(), m.timestamp()[1], m.value(), m.key())
                )
        consumer.unassign()
        return sorted(found, key=lambda r: (r.partition, r.offset))

    # what came out

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True, options="-c timezone=UTC") as db:
            return db.execute(statement, arguments).fetchall()  # type: ignore[call-overload]

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as db:
            db.execute(statement)  # type: ignore[call-overload]

    def recount(self) -> None:
        """The second opinion, where it is at hand."""
        if not RECOUNT.exists():
            return
        names = [("raw", "raw.web"), ("clean", "clean.web"), ("dead", "dead.letters")]
        options = [word for option, name in names for word in (f"--{option}", self.topic(name))]
        done = subprocess.run(
            [sys.executable, str(RECOUNT), *options],
            env=os.environ | self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def verify(
        self, limits: oracle.Limits | None = None, cap: int = 10_000
    ) -> dict[tuple[int, int], Verdict]:
        """Hold everything that came out against the plain oracle; gives its verdicts."""
        log = self.read("raw.web")
        verdicts = oracle.judge(log, limits or oracle.Limits())
        values = {(r.partition, r.offset): r.value for r in log}
        stamps = {(r.partition, r.offset): r.timestamp for r in log}

        clean: dict[tuple[int, int], dict[str, Any]] = {}
        for record in self.read("clean.web"):
            for e in clean_events(record.value):
                at = e["source_partition"], e["source_offset"]
                assert clean.setdefault(at, e) == e, "repeated with other content"
                assert (record.partition, e["source_timestamp"]) == (at[0], stamps[at])
        assert clean.keys() == {at for at, v in verdicts.items() if v.outcome == "accepted"}
        for at, e in clean.items():
            made = oracle.read(values[at], 10**9)
            assert {f: e[f] for f in made} == made

        letters: dict[tuple[int, int], dict[str, Any]] = {}
        for record in self.read("dead.letters"):
            letter = letter_of(record.value)
            if letter is not None and letter["source_topic"] == self.topic("raw.web"):
                letters[letter["source_partition"], letter["source_offset"]] = letter
        refused = {at: v for at, v in verdicts.items() if v.code}
        assert letters.keys() == refused.keys()
        told = {
            at: (x["payload"], x["code"], tuple(sorted(v["rule"] for v in x["violations"])))
            for at, x in letters.items()
        }
        assert told == {at: (values[at], v.code, v.rules) for at, v in refused.items()}

        rows = self.query(
            "SELECT source_partition, source_offset, payload, code, violations FROM"
            " quality.dead_letters WHERE source_topic = %s",
            self.topic("raw.web"),
        )
        stored = {
            (p, o): (payload, code, tuple(sorted(v["rule"] for v in found)))
            for p, o, payload, code, found in rows
        }
        assert stored == told

        expected = oracle.gold([(at[0], clean[at]) for at in sorted(clean)], cap)
        assert self.gold() == expected
        self._verify_views(expected)

        counted = self.query(
            "SELECT partition, extract(epoch FROM window_start)::bigint * 1000, outcome, code,"
            " records FROM quality.outcomes_1m_by_partition"
        )
        assert {row[:4]: row[4] for row in counted} == oracle.outcome_tallies(log, verdicts)
        broken = self.query(
            "SELECT partition, extract(epoch FROM window_start)::bigint * 1000, rule, broken FROM"
            " quality.rules_1m_by_partition WHERE broken > 0"
        )
        assert {row[:3]: row[3] for row in broken} == oracle.broken_tallies(log, verdicts)
        return verdicts

    def gold(self) -> dict[str, dict[tuple[Any, ...], dict[str, int]]]:
        """The gold tables in the oracle's words: times in ms, zeros left out."""
        found: dict[str, dict[tuple[Any, ...], dict[str, int]]] = {}
        with psycopg.connect(self.database_url, options="-c timezone=UTC") as db:
            for name in GOLD:
                cursor = db.execute(f"SELECT * FROM gold.{name}_by_partition")  # type: ignore[call-overload]
                columns = [c.name for c in cursor.description]
                measures = columns.index("events") if name != "traffic_1m" else len(columns) - 2
                found[name] = {
                    (int(row[0].timestamp() * 1000), *row[1:measures]): {
                        m: n for m, n in zip(columns[measures:], row[measures:], strict=True) if n
                    }
                    for row in cursor
                }
        return found

    def _verify_views(self, expected: dict[str, dict[tuple[Any, ...], dict[str, int]]]) -> None:
        """The views add the partitions up."""
        for name in GOLD:
            total = sum(row["events"] for row in expected[name].values())
            column = {"traffic_1m": "events", "searches_1m": "searches"}.get(name)
            if column:
                assert self.query(
                    f"SELECT coalesce(sum({column}), 0)::bigint FROM gold.{name}"
                ) == [(total,)]
        net = sum(
            r.get("gross_minor", 0) - r.get("discount_minor", 0) - r.get("refund_minor", 0)
            for r in expected["orders_1m"].values()
        )
        assert self.query("SELECT coalesce(sum(net_minor), 0)::bigint FROM gold.orders_1m") == [
            (net,)
        ]


def clean_events(value: bytes | None) -> list[dict[str, Any]]:
    """The events in a record of clean.web; none in what is no clean event."""
    try:
        if value and value.startswith(CLEAN.header):
            return [CLEAN.read(value)]
        if value and value.startswith(CLEAN_BATCH.header):
            return list(CLEAN_BATCH.read(value)["events"])
    except (EOFError, IndexError, UnicodeDecodeError):  # what a test wrote there to be refused
        pass
    return []


def letter_of(value: bytes | None) -> dict[str, Any] | None:
    """The dead letter in a record, unless a test wrote something else there."""
    try:
        return LETTER.read(value) if value and value.startswith(LETTER.header) else None
    except (EOFError, IndexError, UnicodeDecodeError):
        return None


@contextmanager
def open_stack(services: Services, folder: Path) -> Iterator[Stack]:
    """Make topics and a database, and remove both; end what still runs."""
    name = f"t{uuid4().hex[:12]}"
    with psycopg.connect(services.database_url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = urlsplit(services.database_url)._replace(path=f"/{name}").geturl()
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": services.bootstrap,
        "DATABASE_URL": url,
        "SHOPSTREAM_GROUP_PREFIX": name,
        "SHOPSTREAM_TOPIC_RAW_WEB": f"{name}.raw.web",
        "SHOPSTREAM_TOPIC_CLEAN_WEB": f"{name}.clean.web",
        "SHOPSTREAM_TOPIC_DEAD_LETTERS": f"{name}.dead.letters",
        "SHOPSTREAM_TOPIC_TALLIES": f"{name}.tallies",
        "SHOPSTREAM_EPOCH_SECONDS": "0.2",
        "SHOPSTREAM_REJECT_BUDGET_RATIO": "2",
    }
    opened = Stack(services, url, name, folder, environment)
    try:
        migrate(url)
        settings = opened.settings()
        if services.embedded:
            topics.touch(settings)
        else:
            topics.ensure(settings, PARTITIONS)
        yield opened
    finally:
        for process in opened.processes:
            if process.poll() is None:
                opened.kill(process)
        for consumer in opened.consumers.values():
            consumer.close()
        remove(opened, name)


def remove(opened: Stack, name: str) -> None:
    services = opened.services
    if not services.embedded:
        admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 0})
        made = [t for t in admin.list_topics(timeout=10).topics if t.startswith(f"{name}.")]
        for future in admin.delete_topics(made).values() if made else ():
            future.result(timeout=20)
        groups = [
            g.group_id
            for g in admin.list_consumer_groups().result(timeout=10).valid
            if g.group_id.startswith(f"{name}.")
        ]
        for future in admin.delete_consumer_groups(groups).values() if groups else ():
            future.exception(timeout=20)
    with psycopg.connect(services.database_url, autocommit=True) as owner:
        drop_database(owner, name)
