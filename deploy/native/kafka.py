"""Apache Kafka as one KRaft node, from its published jars."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from deploy.native.checkout import Checkout, Identity, cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import Server, find_program, locked, run

HERE = Path(__file__).parent
START_SECONDS = 60
JAVA_AT_LEAST = 17
# Capped, so that the broker leaves the machine to the flows that are measured beside it.
JVM = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
)
LOGGING = f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"


@dataclass(frozen=True)
class Kafka:
    """The broker of one checkout.

    Clients reach it at `advertised_port`, where a proxy listens, if it is not 0. `environment` is
    that of its process, beside ours. `more_properties` are lines for server.properties, where the
    later one of two counts.
    """

    checkout: Checkout
    advertised_port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    more_properties: str = ""

    @property
    def _data(self) -> Path:
        return self.checkout.folder / "kafka"

    @property
    def _properties(self) -> Path:
        return self.checkout.folder / "server.properties"

    @property
    def server(self) -> Server:
        """The broker's process."""
        folder = self.checkout.folder
        return Server("Kafka", folder / "kafka.pid", str(self._properties), folder / "kafka.log")

    def install(self) -> None:
        """Make Java and the jars ready, before anything is started."""
        log = self.checkout.folder / "install.log"
        _java(log)
        _jars(log)

    def start(self, identity: Identity) -> subprocess.Popen[bytes]:
        """Start the broker, wait until it answers, and give its process, which outlives ours."""
        java = _java(self.server.log)
        jars = _jars(self.server.log)
        self._data.mkdir(exist_ok=True)
        template = Template((HERE / "server.properties").read_text())
        self._properties.write_text(
            template.substitute(
                port=identity.kafka_port,
                advertised_port=self.advertised_port or identity.kafka_port,
                controller_port=identity.controller_port,
                data=self._data,
            )
            + self.more_properties
        )
        if not (self._data / "meta.properties").exists():
            self._format(java, jars)
        command = [java, *JVM, LOGGING, "-cp", f"{jars}/*", "kafka.Kafka", str(self._properties)]
        process = self.server.spawn(command, **self.environment)
        self.server.pid_file.write_text(f"{process.pid}\n")
        self.server.wait_until(lambda: answers(identity), process, START_SECONDS)
        return process

    def stop(self) -> bool:
        """End the broker; true if it ran."""
        running = self.server.stop(signal.SIGTERM)
        self.server.pid_file.unlink(missing_ok=True)
        return running

    def clean(self) -> None:
        """Remove its data."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._properties.unlink(missing_ok=True)

    def _format(self, java: str, jars: Path) -> None:
        # 16 random bytes in URL-safe base 64, as Kafka's own tool makes them; it refuses one that
        # begins with "-".
        cluster = (
            base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        )
        tool = [java, "-Xmx256m", LOGGING, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
        arguments = ["format", "--cluster-id", cluster, "--config", str(self._properties)]
        run([*tool, *arguments], "Kafka's storage cannot be formatted.", self.server.log)


def answers(identity: Identity) -> None:
    """Ask for the broker's metadata and a group's offsets.

    A broker that gives the first may not have the topic of the groups yet.
    Errors: whatever the client raises while there is no broker.
    """
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.admin import AdminClient

    # The client writes every refused connection to stderr; here a refusal only means "not yet".
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda error: None}
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{identity.kafka_port}", **quiet})
    if not client.list_topics(timeout=2).brokers:
        raise ServicesError("Kafka has no broker yet.")
    consumer = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{identity.kafka_port}", "group.id": "readiness", **quiet}
    )
    try:
        consumer.committed([TopicPartition("readiness", 0)], timeout=5)
    finally:
        consumer.close()


def programs(log: Path) -> tuple[str, Path]:
    """Return Java, and the folder of Kafka's jars, its command line tools among them."""
    return _java(log), _jars(log)


def _java(log: Path) -> str:
    home = os.environ.get("JAVA_HOME")
    java = (
        str(Path(home) / "bin" / "java")
        if home
        else find_program("java", "default-jre-headless", log)
    )
    try:
        banner = subprocess.run(
            [java, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stderr
    except OSError as error:
        raise ServicesError(
            f"Java cannot be run ({error}): install Java {JAVA_AT_LEAST} or newer."
        ) from error
    version = re.search(r'version "(\d+)', banner)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        actual = f"{java} is Java {version[1]}" if version else f"{java} names no version"
        raise ServicesError(
            f"Kafka needs Java {JAVA_AT_LEAST} or newer, {actual}: install it, or set JAVA_HOME."
        )
    return java


def _jars(log: Path) -> Path:
    """Return the folder of the broker's jars.

    The first checkout that needs them fetches them with Maven.
    """
    pom = HERE / "pom.xml"
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom.read_text())
    assert version is not None
    cache = cache_folder()
    jars = cache / f"kafka-{version[1]}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:8]}"
    if jars.is_dir():
        return jars
    with locked(cache / "kafka.lock"):
        if jars.is_dir():
            return jars
        maven = find_program("mvn", "maven", log)
        print(f"services: fetching Apache Kafka {version[1]} (54 MB, once)", file=sys.stderr)
        partial = cache / "kafka.partial"
        shutil.rmtree(partial, ignore_errors=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        run([maven, "-q", "-B", "-f", str(pom), *goal], "Maven cannot fetch Kafka's jars.", log)
        partial.rename(jars)
    return jars
