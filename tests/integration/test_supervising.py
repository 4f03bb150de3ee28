"""`shopstream up`'s supervisor: ports that do not collide, and a restart that can be seen."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

from shopstream.supervise import telemetry_ports
from shopstream.supervise.supervisor import Supervisor
from tests.support.scraping import Served
from tests.support.stack import Stack, wait_until


def is_healthy(flow: Served) -> bool:
    return flow.healthy


def served_by(flows: Supervisor) -> dict[str, Served]:
    return {c.name: Served(c.port.number) for c in flows.children if c.port}


def test_two_at_once_serve_all_their_flows(stack: Stack, tmp_path: Path) -> None:
    other = {"SHOPSTREAM_GROUP_PREFIX": f"{stack.prefix}.other"}
    with (
        Supervisor(stack.environment, tmp_path / "a") as first,
        Supervisor(stack.environment | other, tmp_path / "b") as second,
    ):
        for flows in (first, second):
            flows.wait_until_reading(30)
            assert all(child.reading for child in flows.children)
        places = [(name, at) for flows in (first, second) for name, at in served_by(flows).items()]
        assert len({at.port for _, at in places}) == 8
        for name, at in places:
            wait_until(f"{name} to be healthy", partial(is_healthy, at))
            assert at.by("shopstream_build_info", "flow") == {name: 1}
        assert first.restarts == second.restarts == 0


def test_a_restart_is_seen_at_the_same_port_by_its_start_time(stack: Stack, tmp_path: Path) -> None:
    with Supervisor(stack.environment, tmp_path) as flows:
        flows.wait_until_reading(30)
        (clean,) = (c for c in flows.children if c.name == "clean")
        assert clean.port is not None
        assert clean.process is not None
        at = Served(clean.port.number)
        wait_until("health", lambda: at.healthy)
        before = at.total("shopstream_start_time_seconds")
        os.kill(clean.process.pid, signal.SIGKILL)

        def is_back() -> bool:
            flows.tend()
            return clean.restarts == 1 and clean.reading and at.healthy

        wait_until("the restart", is_back, 30)
        assert clean.telemetry == f"127.0.0.1:{at.port}"
        assert at.total("shopstream_start_time_seconds") > before
        targets = (telemetry_ports.TARGETS / f"{os.getpid()}.json").read_text()
        assert f"127.0.0.1:{at.port}" in targets
    assert not (telemetry_ports.TARGETS / f"{os.getpid()}.json").exists()
    assert {c.last_words for c in flows.children} == {
        "stopped: everything is flushed and committed"
    }
