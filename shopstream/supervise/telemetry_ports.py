"""Ports of flows' telemetry: the wanted one where it is free, else any; and the file that tells
Prometheus of them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.runtime.paths import WORK

FIRST_PORT = 9101
# prometheus/native.yml looks here, for every `up` and demo that runs in this checkout
TARGETS = WORK / "targets"


@dataclass
class Port:
    """A port of one flow, ours for as long as this object lives."""

    host: str
    wanted: int
    number: int = 0
    _mark: socket.socket | None = field(default=None, repr=False)

    @property
    def reached_at(self) -> str:
        """A host that listens everywhere is reached here."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host

    def choose(self) -> int:
        """The port to serve at now: as before where that is possible."""
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
        """Between our look and the flow's own there is a second, in which another supervisor may
        look too.

        On Linux a name that dies with its process marks the port; elsewhere a flow that comes too
        late is started again.
        """
        if sys.platform == "linux":
            mark = socket.socket(socket.AF_UNIX)
            try:
                mark.bind(f"\0shopstream-port-{port}")
            except OSError:
                mark.close()
                return False
            self._mark = mark
        if is_free(self.host, port):
            return True
        self.release()
        return False

    def release(self) -> None:
        if self._mark is not None:
            self._mark.close()
            self._mark = None


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the flow will bind
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def tell_prometheus(targets: Iterable[tuple[str, str, int]]) -> None:
    """Write this process's targets: (flow, host, port). Those of supervisors that were killed are
    removed.
    """
    TARGETS.mkdir(parents=True, exist_ok=True)
    for file in TARGETS.glob("*.json"):
        if not is_alive(file.stem):
            file.unlink(missing_ok=True)
    found = [
        {"targets": [f"{host}:{port}"], "labels": {"flow": flow}} for flow, host, port in targets
    ]
    mine = TARGETS / f"{os.getpid()}.json"
    partial = mine.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=2) + "\n")
    partial.replace(mine)


def forget_targets() -> None:
    (TARGETS / f"{os.getpid()}.json").unlink(missing_ok=True)


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
