"""A Kafka that asks for TLS and a login: every client of ours is let in, and refused clearly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from deploy.native import kafka
from deploy.native.checkout import Checkout
from deploy.native.errors import ServicesError
from flows.runtime.settings import load_settings
from tests.support.ports import free_port
from tests.support.stack import wait_until

LISTENER = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},\
SECURE://127.0.0.1:{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="open sesame";
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={keystore}
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a broker with a certificate of its own; give our settings for it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    checkout = Checkout(tmp_path_factory.mktemp("secured"))
    checkout.prepare()
    identity = checkout.choose_identity()
    folder = checkout.folder
    certificate, key, keystore = (folder / name for name in ("ca.pem", "key.pem", "broker.pem"))
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    keystore.write_text(key.read_text() + certificate.read_text())
    secure = free_port()
    broker = kafka.Kafka(
        checkout,
        more_properties=LISTENER.format(
            plain=identity.kafka_port,
            controller=identity.controller_port,
            secure=secure,
            keystore=keystore,
        ),
    )
    password = folder / "password"
    password.write_text("open sesame\n")
    try:
        broker.install()
        process = broker.start(identity)
    except ServicesError as reason:
        pytest.skip(f"no broker of its own: {reason}")
    try:
        yield {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{secure}",
            "SHOPSTREAM_KAFKA_PROTOCOL": "sasl_ssl",
            "SHOPSTREAM_KAFKA_CA_FILE": str(certificate),
            "SHOPSTREAM_KAFKA_MECHANISM": "PLAIN",
            "SHOPSTREAM_KAFKA_USER": "shop",
            "SHOPSTREAM_KAFKA_PASSWORD_FILE": str(password),
            "SHOPSTREAM_STARTUP_SECONDS": "5",
        }
    finally:
        broker.stop()
        process.wait(30)
        broker.clean()


def ours(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", *words], env=settings, capture_output=True, text=True, timeout=90
    )


@pytest.mark.services
def test_events_pass_from_the_generator_through_a_flow(
    secured: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ours(secured, "shopstream", "topics")
    assert made.returncode == 0, made.stderr
    sent = ours(
        secured, "generators", "run", "--rate", "100", "--duration", "2", "--scenario", "normal"
    )
    assert sent.returncode == 0, sent.stderr
    with (tmp_path / "log").open("wb") as log:
        flow = subprocess.Popen(
            [sys.executable, "-m", "flows.runtime.launch", "clean"],
            env=secured,
            stdout=log,
            stderr=log,
        )
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    try:
        consumer = Consumer(load_settings().kafka.client({"group.id": "look", "log_level": 0}))

        def arrived() -> int:
            bounds = (
                consumer.get_watermark_offsets(TopicPartition("clean.web", p), timeout=10)
                for p in range(4)
            )
            return sum(high for _, high in bounds)

        wait_until("clean events", lambda: flow.poll() is None and arrived() > 0)
        consumer.close()
    finally:
        flow.terminate()
        assert flow.wait(30) == 0, (tmp_path / "log").read_text()


@pytest.mark.services
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SHOPSTREAM_KAFKA_USER", "thief", "Authentication failed"),
        ("SHOPSTREAM_KAFKA_CA_FILE", None, "certificate"),
    ],
)
def test_a_refusal_is_told(
    secured: dict[str, str], name: str, value: str | None, says: str
) -> None:
    settings = {n: v for n, v in secured.items() if n != name}
    if value is not None:
        settings[name] = value
    refused = ours(settings, "flows.runtime.launch", "clean")
    assert refused.returncode == 3, refused.stderr
    assert "does not let us in" in refused.stderr
    assert says in refused.stderr + refused.stdout
