"""Kafka's variables in docker-compose.yml: turned into its configuration by the image's own
program, and a broker runs on it.

That program (kafka.docker.KafkaDockerWrapper) is in Kafka's jars, which `make services` fetches.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.native.checkout import cache_folder
from flows.runtime.settings import load_settings
from shopstream.kafka import topics
from tests.support.compose_file import environment
from tests.support.healthchecks import kafka as healthcheck
from tests.support.ports import free_port
from tests.support.stack import wait_until

# read by the image's scripts, not by the broker
OF_THE_SCRIPTS = {"KAFKA_HEAP_OPTS"}
PORTS = {"INTERNAL": "19092", "HOST": "9092", "CONTROLLER": "9093"}


@pytest.fixture(scope="module")
def java() -> list[str]:
    """Java with the jars of the version that the image has."""
    version = re.search(
        r"<kafka.version>(.+)</kafka.version>", Path("deploy/native/pom.xml").read_text()
    )
    assert version
    jars = sorted(cache_folder().glob(f"kafka-{version[1]}-*"))
    program = shutil.which("java")
    if not jars or program is None:
        pytest.skip("needs Java and Kafka's jars: make services")
    return [program, "-Xmx256m", "-cp", f"{jars[-1]}/*"]


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    return {name: str(free_port()) for name in PORTS}


@pytest.fixture(scope="module")
def rendered(
    java: list[str], ports: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The image's start: the variables become server.properties, and the storage is formatted."""
    folder = tmp_path_factory.mktemp("kafka")
    for name in ("defaults", "mounted", "config", "data"):
        (folder / name).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folder / "defaults" / name).touch()
    (folder / "defaults" / "server.properties").write_text("this.is.the.default=and must be gone\n")
    variables = environment("kafka") | {"KAFKA_LOG_DIRS": str(folder / "data")}
    for name in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_CONTROLLER_QUORUM_VOTERS"):
        text = variables[name].replace("//kafka:", "//127.0.0.1:")
        variables[name] = re.sub("|".join(PORTS.values()), lambda m: by_number(ports)[m[0]], text)
    result = subprocess.run(
        [
            *java,
            "kafka.docker.KafkaDockerWrapper",
            "setup",
            "--default-configs-dir",
            str(folder / "defaults"),
            "--mounted-configs-dir",
            str(folder / "mounted"),
            "--final-configs-dir",
            str(folder / "config"),
        ],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Formatting metadata directory" in result.stdout
    return folder / "config" / "server.properties"


def by_number(ports: dict[str, str]) -> dict[str, str]:
    return {number: ports[name] for name, number in PORTS.items()}


@pytest.fixture(scope="module")
def broker(
    java: list[str], ports: dict[str, str], rendered: Path
) -> Iterator[subprocess.Popen[bytes]]:
    options = environment("kafka")["KAFKA_HEAP_OPTS"].split()
    with (rendered.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [java[0], *options, *java[2:], "kafka.Kafka", str(rendered)], stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_every_variable_is_a_setting_of_the_broker(java: list[str], rendered: Path) -> None:
    """A misspelt one would only be a line in the broker's log."""
    page = subprocess.run(
        [*java, "kafka.server.KafkaConfig"], capture_output=True, text=True, timeout=60
    ).stdout
    known = set(re.findall(r'<h4><a id="([\w.]+)">', page))
    assert "log.dirs" in known
    settings = {line.split("=")[0] for line in rendered.read_text().splitlines() if "=" in line}
    assert settings <= known
    given = {name for name in environment("kafka") if name.startswith("KAFKA_")} - OF_THE_SCRIPTS
    assert settings == {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in given}


def test_a_broker_runs_on_them(broker: subprocess.Popen[bytes], ports: dict[str, str]) -> None:
    wait_until("the broker", lambda: broker.poll() is None and healthcheck(int(ports["HOST"])) == 0)
    for name in ("HOST", "INTERNAL"):
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{ports[name]}", "log_level": 0})
        (address,) = client.list_topics(timeout=20).brokers.values()
        assert str(address.port) == ports[name], "each listener sends its clients to itself"


def test_our_topics_can_be_made_there_and_no_others_appear(
    broker: subprocess.Popen[bytes], ports: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{ports['INTERNAL']}")
    settings = load_settings()
    wait_until("the topics", lambda: topics.ensure(settings, 4) == [], 90)
    client = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
    assert client.list_topics("misspelt", timeout=10).topics["misspelt"].error is not None
    assert {t.name for t in topics.wanted(settings, 4)} <= client.list_topics(
        timeout=10
    ).topics.keys()


def test_it_stops_within_its_grace(broker: subprocess.Popen[bytes]) -> None:
    broker.terminate()
    assert broker.wait(60) in (0, 143)
