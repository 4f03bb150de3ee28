"""When the supervisor takes a process for begun: by its /healthz, else by its log."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.runtime.telemetry.health import Health
from flows.runtime.telemetry.logs import READING
from shopstream.supervise.child import Child, flow_job
from shopstream.supervise.telemetry_ports import Port


@contextmanager
def healthz(line: str, status: int) -> Iterator[Port]:
    """A flow's server that gives this verdict."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz"
            self.send_response(status)
            self.send_header("Content-Length", str(len(line)))
            self.end_headers()
            self.wfile.write(line.encode())

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Port("127.0.0.1", server.server_port, server.server_port)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Some process that runs."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def child(process: subprocess.Popen[bytes], log: Path, port: Port | None) -> Child:
    log.touch()
    return Child("clean", flow_job("clean"), {}, log, port, process)


@pytest.mark.parametrize(
    ("line", "status", "reading"),
    [
        ("starting, at waiting for Kafka\n", 503, False),
        ("ok: nothing waits\n", 200, True),
        ("no progress for 31 s at a sink, while 7 records wait\n", 503, True),
    ],
)
def test_a_flow_reads_when_its_healthz_says_no_more_that_it_starts(
    line: str, status: int, reading: bool, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with healthz(line, status) as port:
        assert child(process, tmp_path / "log", port).reading is reading


def test_a_flow_that_does_not_answer_yet_does_not_read(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with healthz("ok", 200) as port:
        pass
    assert not child(process, tmp_path / "log", port).reading


def test_what_has_ended_does_not_read(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with healthz("ok", 200) as port:
        ended = child(process, tmp_path / "log", port)
        ended.exit_code = 4
        assert not ended.reading


def test_without_telemetry_the_log_says_it(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    silent = child(process, tmp_path / "log", None)
    assert not silent.reading
    silent.log.write_text(json.dumps({"event": READING}) + "\n")
    assert silent.reading


def test_healthz_says_starting_until_partitions_are_found() -> None:
    """The word that the supervisor waits for the end of."""
    health = Health(30.0)
    assert health.verdict(0.0, "x").line.startswith("starting")
    health.observe(1.0, 0, 5)
    assert not health.verdict(1.0, "x").line.startswith("starting")
