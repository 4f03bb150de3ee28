"""A broker and a database of a drill's own, which it may kill, cut, fill and wipe."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from deploy.native.checkout import Checkout
from deploy.native.kafka import Kafka
from deploy.native.postgres import Postgres
from shopstream.demo.dev_services import Services
from shopstream.drills.ending import ended_in_all_cases

NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


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
    def folder(self) -> Path:
        """Where the services have their files."""
        return self._checkout.folder

    @property
    def log_folder(self) -> Path:
        """The folder of the broker's partitions."""
        return self.folder / "kafka"

    @property
    def disk(self) -> tuple[Path, Path]:
        """A folder for a file system of the database's own: as we see it, and as the server does.

        It is beside the data.
        """
        inside = self._home.data.with_name(self._home.data.name + ".disk")
        return self._home.outside(inside), inside

    def start(self) -> None:
        """Start both."""
        self.start_kafka()
        self.start_postgres()

    def start_kafka(
        self, advertised_port: int = 0, environment: Mapping[str, str] = NO_ENVIRONMENT
    ) -> None:
        """Start the broker, on the data that it has."""
        self.kafka = replace(self.kafka, advertised_port=advertised_port, environment=environment)
        self.kafka.start(self._identity)

    def start_postgres(self) -> None:
        """Start the database, on the data that it has."""
        self.postgres.start(self._home, self._identity)

    def stop_kafka(self) -> None:
        """End the broker as an operator does."""
        self.kafka.server.stop(signal.SIGTERM)

    def kill_kafka(self) -> None:
        """Kill the broker, as a power cut would."""
        self.kafka.server.stop(signal.SIGKILL)

    def kill_postgres(self) -> None:
        """Kill the server's first process: the others end with it."""
        self.postgres.server.stop(signal.SIGKILL)

    def wipe_kafka(self) -> None:
        """Remove all that the broker has, while it does not run."""
        self.kafka.clean()

    def mount_disk(self, megabytes: int) -> Path | None:
        """Mount a small disk for the database; gives where it is for the server.

        None where that is not allowed.
        """
        outside, inside = self.disk
        outside.mkdir()
        size = f"size={megabytes}m,mode=0700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "drill", str(outside)], capture_output=True
        )
        if mounted.returncode != 0:
            outside.rmdir()
            return None
        self._home.own(inside)
        return inside

    def end(self) -> None:
        """End both, and remove their data."""
        self.kill_kafka()
        self.postgres.server.stop(signal.SIGINT)
        self.kafka.clean()
        outside, _ = self.disk
        if outside.is_dir():
            subprocess.run(["umount", "--lazy", str(outside)], capture_output=True)
            os.rmdir(outside)
        self.postgres.clean()
        shutil.rmtree(self._checkout.root, ignore_errors=True)


@contextmanager
def private_services() -> Iterator[PrivateServices]:
    """Start services that end with the block, and their data with them."""
    private = PrivateServices(Path(tempfile.mkdtemp(prefix="drill-")))
    with ended_in_all_cases(private.end):
        private.start()
        yield private
