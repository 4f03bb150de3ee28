"""Which port a flow gets, what Prometheus hears of it, and what its log says to a person."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows.runtime.telemetry.logs import READING
from shopstream.supervise import telemetry_ports
from shopstream.supervise.process_log import has_logged, last_words
from shopstream.supervise.supervisor import Supervisor, port_of
from shopstream.supervise.telemetry_ports import Port, remove_targets, write_targets
from tests.support.ports import free_port


def test_two_supervisors_at_once_choose_different_ports_before_any_flow_listens() -> None:
    wanted = free_port()
    first, second = Port("127.0.0.1", wanted), Port("127.0.0.1", wanted)
    try:
        assert first.choose() == wanted
        assert second.choose() not in (0, wanted)
        assert (first.choose(), second.choose()) == (first.number, second.number), (
            "a restart keeps its port"
        )
    finally:
        first.release()
        second.release()


def test_a_port_that_another_program_has_is_left_to_it() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = Port("127.0.0.1", other.getsockname()[1])
        try:
            assert port.choose() not in (0, port.wanted)
        finally:
            port.release()


def test_a_port_that_is_taken_between_two_starts_is_exchanged() -> None:
    port = Port("127.0.0.1", free_port())
    try:
        with closing(socket.create_server(("127.0.0.1", port.choose()))):
            assert port.choose() != port.wanted
    finally:
        port.release()


def test_flows_get_the_ports_that_everybody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOPSTREAM_TELEMETRY_PORT", raising=False)
    wanted = {c.name: c.port and c.port.wanted for c in Supervisor({}, tmp_path).children}
    assert wanted == {"clean": 9101, "metrics": 9102, "deadletters": 9103, "quality": 9104}
    two = {c.name: c.port and c.port.wanted for c in Supervisor({}, tmp_path, 2).children}
    assert (two["clean/0"], two["clean/1"]) == (9101, 9111)
    assert len(set(two.values())) == 6


def test_the_first_port_can_be_set_and_0_is_none() -> None:
    assert port_of(
        {"SHOPSTREAM_TELEMETRY_PORT": "7000", "SHOPSTREAM_TELEMETRY_HOST": "0.0.0.0"}, 2
    ) == Port("0.0.0.0", 7002)
    assert port_of({"SHOPSTREAM_TELEMETRY_PORT": "0"}, 2) is None


def test_prometheus_is_told_of_those_that_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_ports, "TARGETS", tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f"{gone.pid}.json").write_text("[]")
    write_targets([("clean", "127.0.0.1", 9101), ("quality", "127.0.0.1", 4711)])
    (file,) = tmp_path.iterdir()
    assert file.name == f"{os.getpid()}.json"
    assert json.loads(file.read_text()) == [
        {"targets": ["127.0.0.1:9101"], "labels": {"flow": "clean"}},
        {"targets": ["127.0.0.1:4711"], "labels": {"flow": "quality"}},
    ]
    remove_targets()
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be_written_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(telemetry_ports, "TARGETS", tmp_path / "file" / "targets")
    write_targets([("clean", "127.0.0.1", 9101)])
    remove_targets()
    assert "Prometheus is not told" in capsys.readouterr().err


def log_of(tmp_path: Path, *lines: object) -> Path:
    log = tmp_path / "clean.log"
    log.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    )
    return log


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (
            ["SHOPSTREAM_ORDINAL='x': Input should be a valid integer"],
            "SHOPSTREAM_ORDINAL='x': Input should be a valid integer",
        ),
        (
            [
                {"event": "reading"},
                {"event": "the flow has failed", "error": "PermanentError: no topic"},
            ],
            "PermanentError: no topic",
        ),
        ([{"event": "stopped"}], "stopped"),
        (["[1, 2]"], "[1, 2]"),
    ],
)
def test_the_last_words_name_the_cause(tmp_path: Path, lines: list[object], words: str) -> None:
    assert last_words(log_of(tmp_path, *lines), 0) == words


def test_a_start_before_the_last_one_does_not_count(tmp_path: Path) -> None:
    log = log_of(tmp_path, {"event": "reading"})
    assert has_logged(READING, log, 0)
    assert not has_logged(READING, log, log.stat().st_size)
    assert last_words(log, log.stat().st_size) == ""
