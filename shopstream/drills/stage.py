"""The stage of a drill: its own topics, groups and database, and the flows as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient
from psycopg import sql

from database.connection import connect
from database.migrate import migrate
from flows.connectors import kafka_topics
from flows.domain.errors import TransientError
from flows.registry import BY_NAME, CLEANING, COUNTING, UPSTREAM_FIRST
from flows.runtime.paths import ROOT
from flows.runtime.settings import Settings, load_settings
from shopstream.demo.dev_services import Services, drop_database
from shopstream.kafka import topics
from shopstream.kafka.groups import Group
from shopstream.supervise.child import die_with_parent
from shopstream.verify import second_opinion

LAUNCH = "flows.runtime.launch"
ROLLUP = "rollup"
LOOK_SECONDS = 0.1
# a restart by a supervisor: what passes by itself, and a kill
RESTARTED = {4, -signal.SIGKILL}
PARTITIONS = 4


class DrillFailed(Exception):
    """What a drill expected did not happen."""


def expect(is_so: bool, otherwise: str) -> None:
    """Raise DrillFailed unless something is so."""
    if not is_so:
        raise DrillFailed(otherwise)


@dataclass
class Actor:
    """A process of the stage, and how often it was started again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    restarts: int = 0


@dataclass
class Stage:
    """What a drill plays on.

    State: the processes that it started; they end with it.
    """

    services: Services
    folder: Path
    environment: dict[str, str]
    actors: dict[str, Actor] = field(default_factory=dict)
    other: list[subprocess.Popen[bytes]] = field(default_factory=list)
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def settings(self) -> Settings:
        """The settings of its processes."""
        with patch.dict(os.environ, self.environment):
            return load_settings()

    def topic(self, name: str) -> str:
        """Give the topic of a setting, such as `raw_web`."""
        return self.settings.topic(f"topic_{name}")

    # processes

    def start(self, name: str, module: str = LAUNCH, **settings: str) -> Actor:
        """Run a flow, or the roll-up job; `name` may end with its ordinal, as in `clean/1`."""
        words = (
            ["shopstream", "rollup", "--every", "1"]
            if name == ROLLUP
            else [module, name.split("/")[0]]
        )
        command = [sys.executable, "-m", *words]
        environment = {**self.environment, **settings}
        actor = Actor(name, command, environment, self._spawn(name, command, environment))
        self.actors[name] = actor
        return actor

    def start_all(self, **settings: str) -> None:
        """Run every flow and the roll-up job."""
        for name in (*UPSTREAM_FIRST, ROLLUP):
            self.start(name, **settings)

    def _spawn(
        self, name: str, command: list[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
        with (self.folder / f"{name.replace('/', '-')}.log").open("ab") as out:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
            )

    def command(self, *words: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command of shopstream to its end."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
        return subprocess.run(
            [sys.executable, "-m", "shopstream", *words],
            cwd=ROOT,
            env={**inherited, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def tend(self) -> None:
        """Start again what ended for a reason that passes.

        Errors: DrillFailed for a process that ended for good.
        """
        for actor in self.actors.values():
            code = actor.process.poll()
            if code is None:
                continue
            expect(
                code in RESTARTED, f"{actor.name} ended with {code}: {self.last_words(actor.name)}"
            )
            actor.restarts += 1
            actor.process = self._spawn(actor.name, actor.command, actor.environment)

    def kill(self, name: str) -> None:
        """Kill a process, which `tend` starts again."""
        process = self.actors[name].process
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, *names: str) -> list[int]:
        """Let processes drain and commit, and forget them; gives their exit codes."""
        actors = [self.actors.pop(name) for name in names or list(self.actors)]
        for actor in actors:
            actor.process.terminate()
        return [actor.process.wait(60) for actor in actors]

    def forget(self, name: str) -> None:
        """Kill a process for good."""
        self.kill(name)
        del self.actors[name]

    def exit_of(self, name: str, seconds: float = 60.0) -> int:
        """Wait for the end of a process, and forget it."""
        actor = self.actors.pop(name)
        try:
            return actor.process.wait(seconds)
        except subprocess.TimeoutExpired:
            actor.process.kill()
            raise DrillFailed(f"{name} did not end in {seconds:.0f} s") from None

    def log(self, name: str) -> str:
        """Read what a process has logged."""
        path = self.folder / f"{name.replace('/', '-')}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self, name: str) -> str:
        """Give the last error that a process has logged."""
        lines = [line for line in self.log(name).splitlines() if '"error": ' in line]
        if not lines:
            return "(it said nothing)"
        try:
            return str(json.loads(lines[-1])["error"])
        except (ValueError, KeyError):
            return lines[-1]

    # records

    def generate(self, *options: str, ledger: str = "ledger") -> subprocess.Popen[bytes]:
        """Send the generator's records, with their answer key."""
        words = ["generators", "run", *options, "--ledger", str(self.folder / ledger)]
        process = self._spawn("generator", [sys.executable, "-m", *words], self.environment)
        self.other.append(process)
        return process

    def produce(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        topic: str = "raw_web",
        partition: int = -1,
        codec: str = "none",
        timestamp_ms: int = 0,
    ) -> None:
        """Write keys and values, and wait until all are acknowledged."""
        failed: list[KafkaError] = []
        producer = Producer(
            {
                "bootstrap.servers": self.services.bootstrap,
                "partitioner": "murmur2_random",
                "compression.type": codec,
                "message.max.bytes": 8_000_000,
                "log_level": 0,
            }
        )
        for key, value in records:
            while True:
                try:
                    producer.produce(
                        self.topic(topic),
                        value,
                        key,
                        partition=partition,
                        timestamp=timestamp_ms,
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        expect(producer.flush(60) == 0 and not failed, f"records were not written: {failed[:1]}")

    # what came out

    def wait_until(self, what: str, ready: Callable[[], bool], seconds: float = 120.0) -> None:
        """Tend the processes until something is so."""
        until = time.monotonic() + seconds
        while not ready():
            expect(time.monotonic() < until, f"waited {seconds:.0f} s for {what}")
            self.tend()
            time.sleep(LOOK_SECONDS)

    def lag(self, flow: str) -> int:
        """Count the records that a flow has not committed, or that its tables have not."""
        with Group(self.settings, BY_NAME[flow]) as group:
            places, topic = group.places(), group.topic
        resumes = {place.partition: place.resume for place in places}
        if flow not in CLEANING:
            # a wiped or restored database is behind the group until the flow has filled it
            stored = self._stored_places(flow, topic)
            resumes = {p: min(resume, stored.get(p, 0)) for p, resume in resumes.items()}
        return sum(max(0, p.high - max(resumes[p.partition], p.low)) for p in places)

    def _stored_places(self, flow: str, topic: str) -> dict[int, int]:
        client = AdminClient({"bootstrap.servers": self.services.bootstrap, "log_level": 0})
        ids = kafka_topics.topic_ids(client, [topic], self.settings.startup_seconds)
        rows = self.query(
            "SELECT partition, resume FROM ops.checkpoints"
            " WHERE flow = %s AND topic = %s AND topic_id = %s",
            flow,
            topic,
            kafka_topics.written(ids.get(topic)),
        )
        return dict(rows)

    def is_drained(self, flow: str) -> bool:
        """Tell whether a flow has committed all that its topic holds; no without an answer."""
        try:
            return self.lag(flow) == 0
        except (TransientError, psycopg.OperationalError):
            return False

    def drain(self, *flows: str, seconds: float = 180.0) -> None:
        """Wait until everything that was sent is in the outputs."""
        for flow in flows or UPSTREAM_FIRST:
            self.wait_until(f"{flow} to drain", partial(self.is_drained, flow), seconds)

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with psycopg.connect(self.services.database_url, autocommit=True) as db:
            return db.execute(statement.encode(), arguments or None).fetchall()

    def execute(self, statement: str) -> None:
        """Change the database."""
        with psycopg.connect(self.services.database_url, autocommit=True) as db:
            db.execute(statement.encode())

    def losses(self) -> list[tuple[Any, ...]]:
        """Read the ledger: flow, topic, partition, from, to (exclusive), records, why."""
        return self.query(
            "SELECT flow, topic, partition, from_offset, to_offset, records, why FROM ops.losses"
            " ORDER BY 1, 2, 3, 4"
        )

    def verify(self, ledger: str = "ledger") -> str:
        """Compare with the answer key; gives the verdict in a line.

        Errors: DrillFailed with the differences.
        """
        done = self.command("verify", "--ledger", str(self.folder / ledger), seconds=600)
        expect(done.returncode == 0, f"verify: {(done.stdout + done.stderr)[-1500:]}")
        return done.stdout.strip().splitlines()[-1]

    def second_opinion(self) -> str:
        """Count everything again by other code; gives the verdict in a line.

        Errors: DrillFailed with the differences.
        """
        names = second_opinion.Topics(*map(self.topic, ("raw_web", "clean_web", "dead_letters")))
        report = second_opinion.compare(self.services.bootstrap, self.services.database_url, names)
        expect(not report.differences, str(report))
        return str(report).splitlines()[-1]

    def residues(self) -> tuple[int, int]:
        """Give the sums of the residue of outcomes, and of gold."""
        ((outcomes,),) = self.query(
            "SELECT coalesce(sum(abs(residue)), 0)::bigint FROM ops.account"
        )
        ((gold,),) = self.query(
            "SELECT (SELECT coalesce(sum(abs(gold_residue)), 0) FROM ops.gold_account)::bigint"
            " + (SELECT coalesce(sum(abs(residue)), 0) FROM gold.residue_1m_by_partition)::bigint"
        )
        return outcomes, gold

    def prove(self, ledger: str | None = "ledger") -> list[str]:
        """Drain, and hold everything against both opinions and the account.

        Errors: DrillFailed.
        """
        self.drain()
        words = [self.second_opinion()]
        if ledger is not None:
            words.insert(0, self.verify(ledger))
        residues = self.residues()
        expect(residues == (0, 0), f"residue {residues[0]}, gold residue {residues[1]}")
        return words

    def close(self) -> None:
        """End what still runs."""
        for process in (*(a.process for a in self.actors.values()), *self.other):
            if process.poll() is None:
                process.kill()
                process.wait()


SHORT = {"SHOPSTREAM_EPOCH_SECONDS": "0.3"}
LATENESS = {
    "SHOPSTREAM_ALLOWED_LATENESS_SECONDS": "10",
    "SHOPSTREAM_FUTURE_TOLERANCE_SECONDS": "5",
}


@contextmanager
def open_stage(services: Services, folder: Path, **settings: str) -> Iterator[Stage]:
    """Make topics and a database, and remove both."""
    prefix = f"drill{uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    with connect(services.database_url, 20.0) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(prefix)))
    url = url_of(services.database_url, prefix)
    own = Services(services.bootstrap, url, False)
    environment = {
        **own.environment,
        **SHORT,
        **LATENESS,
        "SHOPSTREAM_GROUP_PREFIX": prefix,
        "SHOPSTREAM_TOPIC_RAW_WEB": f"{prefix}.raw.web",
        "SHOPSTREAM_TOPIC_CLEAN_WEB": f"{prefix}.clean.web",
        "SHOPSTREAM_TOPIC_DEAD_LETTERS": f"{prefix}.dead.letters",
        "SHOPSTREAM_TOPIC_TALLIES": f"{prefix}.tallies",
        "SHOPSTREAM_REJECT_BUDGET_RATIO": "2",
        "SHOPSTREAM_LOG_FORMAT": "json",
        **settings,
    }
    stage = Stage(own, folder, environment)
    try:
        migrate(url)
        topics.ensure(stage.settings, PARTITIONS)
        yield stage
    finally:
        stage.close()
        remove(services, prefix)


def url_of(url: str, database: str) -> str:
    """Name another database of the same server."""
    base, _, _ = url.rpartition("/")
    return f"{base}/{database}"


def remove(services: Services, prefix: str) -> None:
    """Remove the topics, groups and databases of a stage, as far as the services answer."""
    try:
        admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 0})
        names = [n for n in admin.list_topics(timeout=5).topics if n.startswith(f"{prefix}.")]
        for future in admin.delete_topics(names).values() if names else ():
            future.exception(timeout=20)
        groups = [f"{prefix}.{flow}" for flow in BY_NAME]
        for future in admin.delete_consumer_groups(groups).values():
            future.exception(timeout=20)
        with connect(services.database_url, 5.0) as owner:
            drop_database(owner, prefix)
    except Exception as error:  # a drill of broken services may leave them broken
        print(f"drill: {prefix} is not removed: {error}", file=sys.stderr)


SCALING = (*CLEANING, *COUNTING)
