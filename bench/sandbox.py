"""Topics, groups and a database that belong to one step alone, and go with it."""

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
from flows.runtime.settings import Settings, environment_name
from shopstream.demo.dev_services import NATIVE, Services, drop_database
from shopstream.kafka import topics

PARTITIONS = 4
FOLDER = WORK / "bench"
MARK = "shopstream-bench-"
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Sandbox:
    """Where a step runs. `environment` is what its processes get, `settings` the same for this one."""

    name: str
    environment: Mapping[str, str]
    settings: Settings

    @property
    def logs(self) -> Path:
        return FOLDER / self.name.removeprefix(MARK)

    @property
    def topics(self) -> list[str]:
        return [t.name for t in topics.wanted(self.settings, PARTITIONS)]


def sandbox_of(services: Services, name: str, raw: str | None, form: str) -> Sandbox:
    """Name everything after the step; `raw` is the topic of another step to read instead of an own
    one.
    """
    name = MARK + name
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
    # pydantic reads the texts
    return Sandbox(name, environment, Settings(**fields, **plain))  # type: ignore[arg-type]


@contextmanager
def sandbox(
    services: Services, name: str, raw: str | None = None, form: str = "event"
) -> Iterator[Sandbox]:
    """Make topics and database, and remove them afterwards, whatever happened in between."""
    made = sandbox_of(services, name, raw, form)
    admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 3})
    try:
        topics.ensure(made.settings, PARTITIONS)
        with connect(services.database_url, PATIENCE_SECONDS) as db:
            # template1 may be in use for a moment, and then cannot be copied
            db.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(made.name))
            )
        migrate(made.settings.database_url, PATIENCE_SECONDS)
        yield made
    finally:
        drop_topics(admin, [t for t in made.topics if t != raw])
        drop_groups(admin, [made.settings.group(flow) for flow in NAMES])
        with connect(services.database_url, PATIENCE_SECONDS) as db:
            drop_database(db, made.name)


def drop_topics(admin: AdminClient, names: list[str]) -> None:
    there = topics.existing(admin, PATIENCE_SECONDS).keys() & set(names)
    if there:
        for future in admin.delete_topics(
            sorted(there), operation_timeout=PATIENCE_SECONDS
        ).values():
            future.result()


def drop_groups(admin: AdminClient, groups: list[str]) -> None:
    for future in admin.delete_consumer_groups(groups).values():
        try:
            future.result()
        except KafkaException as error:  # one that never committed was never made
            if error.args[0].name() not in (
                "GROUP_ID_NOT_FOUND",
                "COORDINATOR_NOT_AVAILABLE",
                "NON_EMPTY_GROUP",
            ):
                raise


@contextmanager
def alone(services: Services) -> Iterator[None]:
    """Keep a second bench away, and remove what earlier ones left: logs, and all of those that were
    killed.

    Errors: BenchError while another one runs.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    # beside the services, not beside the logs: what must not run twice is a bench on them
    with (NATIVE.parent / "bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(
                "another bench runs on these services: two at once would measure each other"
            ) from None
        sweep(services)
        yield


def sweep(services: Services) -> None:
    for folder in FOLDER.glob("*/"):
        shutil.rmtree(folder)
    admin = AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 3})
    drop_topics(admin, [t for t in topics.existing(admin, PATIENCE_SECONDS) if t.startswith(MARK)])
    with connect(services.database_url, PATIENCE_SECONDS) as db:
        found = db.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (MARK,)
        ).fetchall()
        for (name,) in found:
            drop_database(db, name)
