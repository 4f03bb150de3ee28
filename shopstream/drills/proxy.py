"""A proxy between flows and broker that makes connections slow, or half-open."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploy.native import toxiproxy
from shopstream.drills.private import PrivateServices
from shopstream.supervise.child import die_with_parent

START_SECONDS = 10.0
NAME = "kafka"


@dataclass
class Proxy:
    """A running toxiproxy with one proxy in it.

    State: the poisons in force.
    """

    control: str
    poisons: list[str] = field(default_factory=list)

    def poison(self, kind: str, **attributes: int) -> None:
        """Add a toxic, in both directions."""
        for stream in ("upstream", "downstream"):
            name = f"{kind}-{stream}"
            toxic = {"name": name, "type": kind, "stream": stream, "attributes": attributes}
            self.ask("POST", f"/proxies/{NAME}/toxics", toxic)
            self.poisons.append(name)

    def cure(self) -> None:
        """Remove all toxics."""
        for name in self.poisons:
            self.ask("DELETE", f"/proxies/{NAME}/toxics/{name}")
        self.poisons.clear()

    def ask(self, method: str, path: str, body: Any = None) -> None:
        """Send a request to toxiproxy."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.control}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=START_SECONDS):
            pass


@contextmanager
def proxied(private: PrivateServices) -> Iterator[Proxy]:
    """Restart the broker behind a proxy; it is reached directly again after the block.

    Errors: ServicesError where toxiproxy cannot be had.
    """
    program = toxiproxy.install(private.folder / "install.log")
    control_port, port = free_port(), free_port()
    command = [str(program), "-host", "127.0.0.1", "-port", str(control_port)]
    with (private.folder / "toxiproxy.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=partial(die_with_parent, signal.SIGKILL),
        )
    proxy = Proxy(f"http://127.0.0.1:{control_port}")
    upstream = private.services.bootstrap
    try:
        _wait_for(proxy)
        listen = f"127.0.0.1:{port}"
        proxy.ask("POST", "/proxies", {"name": NAME, "listen": listen, "upstream": upstream})
        private.stop_kafka()
        private.start_kafka(advertised_port=port)
        yield proxy
        private.stop_kafka()
        private.start_kafka()
    finally:
        process.kill()
        process.wait()


def _wait_for(proxy: Proxy) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return proxy.ask("GET", "/version")
        except (OSError, urllib.error.URLError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def free_port() -> int:
    """Give a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
