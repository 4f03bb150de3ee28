"""A broker and a database of a drill's own, which it may kill, cut, fill and wipe."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.native.checkout import Checkout
from deploy.native.kafka import Kafka
from deploy.native.postgres import Postgres
from shopstream.demo.dev_services import Services


class PrivateServices:
    """Apache Kafka and PostgreSQL in a folder of their own, on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self._checkout = Checkout(folder)
        self._checkout.prepare()
        self._identity = self._checkout.choose_identity()
        self.kafka = Kafka(self._checkout)
        self.postgres = Postgres(self._checkout)
        self.kafka.install()
        self._home = self.postgres.install()

    @property
    def services(self) -> Services:
        """Where they are."""
        identity = self._identity
        return Services(
            f"127.0.0.1:{identity.kafka_port}",
            f"postgresql://shopstream:{identity.password}@127.0.0.1:{identity.postgres_port}"
            "/shopstream",
            False,
        )

    @property
    def superuser_url(self) -> str:
        """Where the database is, as its superuser."""
        identity = self._identity
        return (
            f"postgresql://postgres:{identity.superuser_password}@127.0.0.1"
            f":{identity.postgres_port}/postgres"
        )

    @property
    def log_folder(self) -> Path:
        """The folder of the broker's partitions."""
        return self._checkout.folder / "kafka"

    def start(self) -> None:
        """Start both."""
        self.start_kafka()
        self.start_postgres()

    def start_kafka(self) -> None:
        """Start the broker, on the data that it has."""
        self.kafka.start(self._identity)

    def start_postgres(self) -> None:
        """Start the database, on the data that it has."""
        self.postgres.start(self._home, self._identity)

    def kill_kafka(self) -> None:
        """Kill the broker, as a power cut would."""
        self.kafka.server.stop(signal.SIGKILL)

    def kill_postgres(self) -> None:
        """Kill the server's first process: the others end with it."""
        self.postgres.server.stop(signal.SIGKILL)

    def wipe_kafka(self) -> None:
        """Remove all that the broker has, while it does not run."""
        self.kafka.clean()

    def end(self) -> None:
        """End both, and remove their data."""
        self.kill_kafka()
        self.postgres.server.stop(signal.SIGINT)
        self.kafka.clean()
        self.postgres.clean()


@contextmanager
def private_services() -> Iterator[PrivateServices]:
    """Start services that end with the block, and their data with them."""
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    private = PrivateServices(folder)
    watcher = _end_with_us(private)
    try:
        private.start()
        yield private
    finally:
        private.end()
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_us(private: PrivateServices) -> int:
    """Fork a process that ends the services when this one is gone, however it went."""
    parent = os.getpid()
    watcher = os.fork()
    if watcher:
        return watcher
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: None)
    while os.getppid() == parent:
        signal.pause()
    private.end()
    os._exit(0)
