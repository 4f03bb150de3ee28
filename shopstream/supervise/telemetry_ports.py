"""Ports of the flows' telemetry, and the file that lists them for Prometheus.

A flow gets the port that is counted from the setting where that is free, else any free one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from flows.runtime.paths import WORK

FIRST_PORT = 9101
# prometheus/native.yml looks here, for every `up` and demo that runs in this checkout
TARGETS = WORK / "targets"


@dataclass
class Port:
    """A port of one flow.

    State: on Linux, a reservation that other supervisors see for as long as this process lives.
    """

    host: str
    wanted: int
    number: int = 0
    _reservation: socket.socket | None = field(default=None, repr=False)

    @property
    def reached_at(self) -> str:
        """The host to connect to; one that listens on every address is reached at loopback."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host

    def choose(self) -> int:
        """Choose the port to serve at now: the one before, where that is still possible."""
        if not (self.number and is_free(self.host, self.number)):
            self.release()
            self.number = self.wanted if self._reserve(self.wanted) else self._any()
        return self.number

    def _any(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((self.host, 0))
                port = int(probe.getsockname()[1])
            if self._reserve(port):
                return port

    def _reserve(self, port: int) -> bool:
        # Between this look and the bind of the flow there is about a second, in which another
        # supervisor may look too. On Linux an abstract socket, which ends with its process,
        # reserves the port; elsewhere the flow that binds too late fails and is started again.
        if sys.platform == "linux":
            reservation = socket.socket(socket.AF_UNIX)
            try:
                reservation.bind(f"\0shopstream-port-{port}")
            except OSError:
                reservation.close()
                return False
            self._reservation = reservation
        if is_free(self.host, port):
            return True
        self.release()
        return False

    def release(self) -> None:
        """Give up the reservation."""
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None


def is_free(host: str, port: int) -> bool:
    """Tell whether a flow could bind the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the flow will bind
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def write_targets(targets: Iterable[tuple[str, str, int]]) -> None:
    """List this process's targets for Prometheus, and remove the lists of processes that are gone.

    Shape: targets are (flow, host, port).
    Failure: a folder that cannot be written is said in a line; the flows go on without it.
    """
    entries = [
        {"targets": [f"{host}:{port}"], "labels": {"flow": flow}} for flow, host, port in targets
    ]
    path = TARGETS / f"{os.getpid()}.json"
    partial = path.with_suffix(".partial")
    try:
        TARGETS.mkdir(parents=True, exist_ok=True)
        for file in TARGETS.glob("*.json"):
            if not _is_alive(file.stem):
                file.unlink(missing_ok=True)
        partial.write_text(json.dumps(entries, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        print(f"Prometheus is not told of the flows' ports: {error}", file=sys.stderr, flush=True)


def remove_targets() -> None:
    """Remove this process's list of targets, where that is possible."""
    with suppress(OSError):
        (TARGETS / f"{os.getpid()}.json").unlink(missing_ok=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
