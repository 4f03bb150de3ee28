"""The healthchecks of docker-compose.yml, run as they are written: green on what works, red on what
does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from flows.registry import NAMES
from shopstream.demo.dev_services import Services
from tests.support.healthchecks import SERVICES, check, kafka
from tests.support.prometheus import serving
from tests.support.stack import Stack, wait_until

HTTP = ("grafana", "kafka-ui", "registry", "clean")


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A web server on a port of its own that gives every question this answer."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing, as a server that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def web(name: str, port: int) -> int:
    if name in NAMES:
        return check(name, {}, SHOPSTREAM_TELEMETRY_PORT=str(port)).returncode
    inside = SERVICES[name]["ports"][0].rpartition(":")[2]
    return check(name, {f"127.0.0.1:{inside}": f"127.0.0.1:{port}"}).returncode


@pytest.mark.parametrize("name", HTTP)
def test_a_web_service_is_healthy_when_it_says_so(name: str) -> None:
    with answering(200) as port:
        assert web(name, port) == 0


def test_all_flows_are_asked_alike() -> None:
    assert all(SERVICES[flow]["healthcheck"] == SERVICES["clean"]["healthcheck"] for flow in NAMES)


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("status", [404, 503])
def test_a_web_service_is_ill_when_it_says_so(name: str, status: int) -> None:
    with answering(status) as port:
        assert web(name, port) != 0


@pytest.mark.parametrize("name", HTTP)
def test_a_web_service_is_ill_when_nobody_is_there(name: str) -> None:
    assert web(name, closed()) != 0


def test_a_web_service_is_ill_when_it_hangs() -> None:
    """All at once: each one takes as long as Docker waits."""
    names = ("clean", "grafana", "registry")
    with silent() as port, ThreadPoolExecutor() as checks:
        codes = list(checks.map(web, names, [port] * len(names)))
    assert all(code != 0 for code in codes), dict(zip(names, codes, strict=True))


def test_kafka_is_healthy_when_the_broker_answers(services: Services) -> None:
    assert kafka(int(services.bootstrap.rpartition(":")[2])) == 0


def test_kafka_is_ill_when_something_else_is_there_or_nothing() -> None:
    assert kafka(closed()) != 0
    with answering(200) as port:
        assert kafka(port) != 0
    with silent() as port:
        assert kafka(port) != 0


def test_the_database_is_healthy_when_it_answers_a_query(stack: Stack, tmp_path: Path) -> None:
    place = conninfo_to_dict(stack.database_url)
    secret = tmp_path / "password"
    secret.write_text(str(place.get("password") or "none"))
    where = {
        "-h 127.0.0.1": f"-h {place['host']}",
        "/run/secrets/database_owner_password": str(secret),
    }
    who = {
        "POSTGRES_USER": str(place["user"]),
        "POSTGRES_DB": str(place["dbname"]),
        "PGPORT": str(place.get("port", 5432)),
    }
    result = check("timescaledb", where, **who)
    assert result.returncode == 0, result.stderr
    assert check("timescaledb", where, **who | {"POSTGRES_DB": "no_such_database"}).returncode != 0
    assert check("timescaledb", where, **who | {"PGPORT": str(closed())}).returncode != 0


@pytest.mark.services
def test_the_database_is_ill_when_the_password_is_another(
    services: Services, tmp_path: Path
) -> None:
    """Only with the right one does it prove that the data folder and the secret belong together."""
    place = conninfo_to_dict(services.database_url)
    secret = tmp_path / "password"
    secret.write_text("certainly-another-one")
    result = check(
        "timescaledb",
        {"/run/secrets/database_owner_password": str(secret)},
        POSTGRES_USER=str(place["user"]),
        POSTGRES_DB=str(place["dbname"]),
        PGPORT=str(place["port"]),
    )
    assert result.returncode != 0
    assert "authentication failed" in result.stderr


def test_prometheus_is_healthy_when_it_answers_a_query(
    prometheus_programs: Path, tmp_path: Path
) -> None:
    path = f"{prometheus_programs}{os.pathsep}{os.environ['PATH']}"
    assert (
        check("prometheus", {"127.0.0.1:9090": f"127.0.0.1:{closed()}"}, PATH=path).returncode != 0
    )
    with serving(prometheus_programs, tmp_path) as url:
        address = {"127.0.0.1:9090": url.removeprefix("http://")}
        wait_until("health", lambda: check("prometheus", address, PATH=path).returncode == 0, 20)


@pytest.mark.parametrize(
    "flags",
    ["--storage.tsdb.path", "--storage.tsdb.retention.time", "--storage.tsdb.retention.size"],
)
def test_prometheus_knows_its_flags(prometheus_programs: Path, flags: str) -> None:
    result = subprocess.run(
        [prometheus_programs / "prometheus", "--help"], capture_output=True, text=True, timeout=20
    )
    assert f"{flags}=" in result.stdout + result.stderr
    assert any(word.startswith(f"{flags}=") for word in SERVICES["prometheus"]["command"])


def test_the_generator_is_healthy_while_records_come_in(stack: Stack) -> None:
    environment = stack.environment | {"SHOPSTREAM_STARTUP_SECONDS": "5"}
    # it watches for two seconds instead of eight; nothing comes, however long it looks
    assert check("generator", {"8": "2"}, **environment).returncode == 1
    over = threading.Event()

    def produce() -> None:
        while not over.wait(0.3):
            stack.produce([(b"key", b"value")])

    sending = threading.Thread(target=produce)
    sending.start()
    try:
        assert check("generator", {}, **environment).returncode == 0
    finally:
        over.set()
        sending.join()


def test_a_topic_that_is_missing_is_told(stack: Stack) -> None:
    if stack.services.embedded:
        pytest.skip("this broker makes each topic that it is asked for: make services")
    result = check(
        "generator", {}, **stack.environment | {"SHOPSTREAM_TOPIC_RAW_WEB": stack.topic("nowhere")}
    )
    assert result.returncode == 3
    assert re.search(r"nowhere.*(unknown|not)", result.stderr, re.IGNORECASE)
