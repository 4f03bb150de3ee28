"""A pipeline of one test: its topics, groups and database, and its flows as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from flows.registry import BY_NAME, UPSTREAM_FIRST
from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, Settings, load_settings
from shopstream.demo.dev_services import Services
from shopstream.kafka import topics
from shopstream.verify.second_opinion import Report, Topics, compare
from tests.support import verification
from tests.support.databases import new_database
from tests.support.plain_oracle import Limits, Stored, Verdict

FLOWS = UPSTREAM_FIRST
SOURCES = {name: str(FIELDS[BY_NAME[name].reads].default) for name in FLOWS}
PARTITIONS = 4
POLL_SECONDS = 0.05  # a poll that is not full waits for all of it
# A broker answers so in the first moments of a topic.
NO_LEADER_YET = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
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
    """The topics, consumer groups and database of one test, and what it runs over them."""

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

    def run(self, log: str, command: list[str], **settings: str) -> subprocess.Popen[bytes]:
        """Run a command with the settings of this stack."""
        return self.run_in(ROOT, log, command, settings)

    def run_in(
        self, folder: Path, log: str, command: list[str], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run a command in another folder."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
        with (self.folder / f"{log}.log").open("ab") as out:
            process = subprocess.Popen(
                command,
                env={**inherited, **self.environment, **settings},
                cwd=folder,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)
        return process

    def start_all(self, **settings: str) -> dict[str, subprocess.Popen[bytes]]:
        return {flow: self.start(flow, **settings) for flow in FLOWS}

    def wait_until_reading(self) -> None:
        """Wait until all flows have begun to read their topics."""
        for flow in FLOWS:
            wait_until(f"{flow} to read", partial(self.is_reading, flow))

    def is_reading(self, flow: str) -> bool:
        return '"event": "reading"' in self.log(flow)

    def log(self, flow: str) -> str:
        return (self.folder / f"{flow}.log").read_text()

    def terminate(self, *processes: subprocess.Popen[bytes]) -> list[int]:
        """Send SIGTERM, and give the exit codes."""
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
        for key, value in records:
            producer.produce(
                self.topic(topic),
                value,
                key,
                # -1: the partitioner chooses
                partition=-1 if partition is None else partition,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(30) == 0
        assert failed == []

    def ends(self, topic: str) -> dict[int, int]:
        """Give the offset after the last record of each partition."""
        partitions = [TopicPartition(self.topic(topic), p) for p in range(PARTITIONS)]
        return {partition.partition: self._watermarks(partition)[1] for partition in partitions}

    def _watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """Low and high watermark; asks again while the partition has no leader yet."""
        until = time.monotonic() + 10
        while True:
            try:
                low, high = self.consumer("reader").get_watermark_offsets(partition, timeout=10)
            except KafkaException as error:
                if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return low, high

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
        partitions = [TopicPartition(self.topic(SOURCES[flow]), p) for p in range(PARTITIONS)]
        commits = self.consumer(f"{self.prefix}.{flow}").committed(partitions, timeout=10)
        return {commit.partition: commit for commit in commits}

    def is_drained(self, flow: str) -> bool:
        committed = self.committed(flow)
        return all(
            max(committed[p].offset, 0) == end for p, end in self.ends(SOURCES[flow]).items()
        )

    def drain(self, *flows: str, seconds: float = 60.0) -> None:
        """Wait until everything that was produced is in the outputs.

        A flow that ends before is a failure.
        """
        for flow in flows or FLOWS:
            wait_until(f"{flow} to drain", partial(self.is_drained, flow), seconds)

    def read(self, topic: str) -> list[Stored]:
        """Read all records of a topic, by partition and offset."""
        ends = {p: end for p, end in self.ends(topic).items() if end}
        records: list[Stored] = []
        consumer = self.consumer("reader")
        consumer.assign([TopicPartition(self.topic(topic), p, 0) for p in ends])
        positions = dict.fromkeys(ends, 0)
        until = time.monotonic() + 30
        while positions != ends:
            assert time.monotonic() < until, f"{topic} stays at {positions} of {ends}"
            for message in consumer.consume(10_000, POLL_SECONDS):
                record = stored(message)
                positions[record.partition] = record.offset + 1
                records.append(record)
        consumer.unassign()
        return sorted(records, key=lambda r: (r.partition, r.offset))

    # what came out

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True, options="-c timezone=UTC") as db:
            return db.execute(statement.encode(), arguments).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as db:
            db.execute(statement.encode())

    def verify(
        self, limits: Limits | None = None, cap: int = 10_000
    ) -> dict[tuple[int, int], Verdict]:
        """Hold everything that came out against the plain oracle; gives its verdicts."""
        return verification.verify(self, limits or Limits(), cap)

    def recount(self) -> None:
        """Ask the second opinion, which must agree."""
        report = self.second_opinion()
        assert not report.differences, str(report)

    def second_opinion(self) -> Report:
        names = Topics(*map(self.topic, ("raw.web", "clean.web", "dead.letters")))
        return compare(self.services.bootstrap, self.database_url, names)


def stored(message: Message[bytes, bytes]) -> Stored:
    """Give what tests look at of a consumed record."""
    assert message.error() is None, message.error()
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return Stored(partition, offset, message.timestamp()[1], message.value(), message.key())


@contextmanager
def open_stack(services: Services, folder: Path) -> Iterator[Stack]:
    """Make topics and a database, and remove both; end what still runs."""
    name = f"t{uuid4().hex[:12]}"
    with new_database(services, name) as database:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": services.bootstrap,
            "DATABASE_URL": database.url,
            "SHOPSTREAM_GROUP_PREFIX": name,
            "SHOPSTREAM_TOPIC_RAW_WEB": f"{name}.raw.web",
            "SHOPSTREAM_TOPIC_CLEAN_WEB": f"{name}.clean.web",
            "SHOPSTREAM_TOPIC_DEAD_LETTERS": f"{name}.dead.letters",
            "SHOPSTREAM_TOPIC_TALLIES": f"{name}.tallies",
            "SHOPSTREAM_EPOCH_SECONDS": "0.2",
            "SHOPSTREAM_REJECT_BUDGET_RATIO": "2",
        }
        opened = Stack(services, database.url, name, folder, environment)
        try:
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
            if not services.embedded:
                _remove_topics_and_groups(services, f"{name}.")


def _remove_topics_and_groups(services: Services, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 0})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    for future in admin.delete_topics(names).values() if names else ():
        future.result(timeout=20)
    groups = [
        group.group_id
        for group in admin.list_consumer_groups().result(timeout=10).valid
        if group.group_id.startswith(prefix)
    ]
    for future in admin.delete_consumer_groups(groups).values() if groups else ():
        future.exception(timeout=20)
