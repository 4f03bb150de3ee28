"""Sandboxes: topics, groups and a database of one step, removed after it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql

from bench.errors import BenchError
from database.connection import connect
from database.migrate import migrate
from flows.registry import NAMES
from flows.runtime.paths import WORK
from flows.runtime.settings import COMPLETE, Settings, environment_name
from shopstream.demo.dev_services import NATIVE, Services, drop_database
from shopstream.kafka import topics

PARTITIONS = 4
FOLDER = WORK / "bench"
NAME_PREFIX = "shopstream-bench-"
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Sandbox:
    """Where a step runs.

    Shape: `environment` is for its processes, `settings` is the same for this one.
    """

    name: str
    environment: Mapping[str, str]
    settings: Settings

    @property
    def logs(self) -> Path:
        """Give the folder of the flows' logs, which stays until the next bench."""
        return FOLDER / self.name.removeprefix(NAME_PREFIX)

    @property
    def topics(self) -> list[str]:
        """Name the topics, the raw one included."""
        return [t.name for t in topics.wanted(self.settings, PARTITIONS)]


def describe_sandbox(services: Services, name: str, raw: str | None, form: str) -> Sandbox:
    """Name everything after the step; `raw` is the topic of another step, to read that instead."""
    name = NAME_PREFIX + name
    fields = {
        "topic_raw_web": raw or f"{name}.raw.web",
        "topic_clean_web": f"{name}.clean.web",
        "topic_dead_letters": f"{name}.dead.letters",
        "topic_tallies": f"{name}.tallies",
        "group_prefix": name,
        "clean_form": form,
    }
    url = urlsplit(services.database_url)._replace(path="/" + name).geturl()
    environment = {environment_name(field): value for field, value in fields.items()}
    environment |= {"KAFKA_BOOTSTRAP_SERVERS": services.bootstrap, "DATABASE_URL": url}
    plain = {"KAFKA_BOOTSTRAP_SERVERS": services.bootstrap, "DATABASE_URL": url}
    settings = COMPLETE(**fields, **plain)  # type: ignore[arg-type]  # pydantic reads the texts
    return Sandbox(name, environment, settings)


@contextmanager
def open_sandbox(
    services: Services, name: str, raw: str | None = None, form: str = "event"
) -> Iterator[Sandbox]:
    """Make topics and database, and remove them in the end, whatever happened in between."""
    sandbox = describe_sandbox(services, name, raw, form)
    admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 3})
    try:
        topics.ensure(sandbox.settings, PARTITIONS)
        with connect(services.database_url, PATIENCE_SECONDS) as db:
            # Not template1: while anybody is connected to it, it cannot be copied.
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
            db.execute(statement.format(sql.Identifier(sandbox.name)))
        migrate(sandbox.settings.database_url, PATIENCE_SECONDS)
        yield sandbox
    finally:
        drop_topics(admin, [topic for topic in sandbox.topics if topic != raw])
        drop_groups(admin, [sandbox.settings.group(flow) for flow in NAMES])
        with connect(services.database_url, PATIENCE_SECONDS) as db:
            drop_database(db, sandbox.name)


def drop_topics(admin: AdminClient, names: list[str]) -> None:
    """Delete those topics that exist."""
    existing = topics.existing(admin, PATIENCE_SECONDS).keys() & set(names)
    if existing:
        deleted = admin.delete_topics(sorted(existing), operation_timeout=PATIENCE_SECONDS)
        for future in deleted.values():
            future.result()


def drop_groups(admin: AdminClient, groups: list[str]) -> None:
    """Delete those consumer groups that exist and are not in use."""
    for future in admin.delete_consumer_groups(groups).values():
        try:
            future.result()
        except KafkaException as error:  # a group that never committed does not exist
            if error.args[0].name() not in (
                "GROUP_ID_NOT_FOUND",
                "COORDINATOR_NOT_AVAILABLE",
                "NON_EMPTY_GROUP",
            ):
                raise


@contextmanager
def exclusive_bench(services: Services) -> Iterator[None]:
    """Lock the services against a second bench, and remove what earlier ones left behind.

    Errors: BenchError while another bench runs.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The lock is beside the services, not beside the logs: two benches must not share the services.
    with (NATIVE.parent / "bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(
                "another bench runs on these services: two at once would measure each other"
            ) from None
        remove_leftovers(services)
        yield


def remove_leftovers(services: Services) -> None:
    """Remove the logs of earlier benches, and topics and databases of those that were killed."""
    for folder in FOLDER.glob("*/"):
        shutil.rmtree(folder)
    admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 3})
    existing = topics.existing(admin, PATIENCE_SECONDS)
    drop_topics(admin, [topic for topic in existing if topic.startswith(NAME_PREFIX)])
    with connect(services.database_url, PATIENCE_SECONDS) as db:
        names = db.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (NAME_PREFIX,)
        ).fetchall()
        for (name,) in names:
            drop_database(db, name)
