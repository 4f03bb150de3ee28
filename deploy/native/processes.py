"""Start, recognise and end the server processes, by their own pid files."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.native.errors import ServicesError

STOP_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A server of this checkout.

    It is known by the file with its pid and by `mark`, an argument that only its command line has.
    """

    name: str
    pid_file: Path
    mark: str
    log: Path

    def pid(self) -> int | None:
        """Return the pid of the running server.

        A stale file, or a pid that another program got since, is None.
        """
        try:
            pid = int(self.pid_file.read_text().split("\n", 1)[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if self.mark.encode() in arguments else None

    def spawn(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own, so that it outlives make and its terminal."""
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def wait_until(
        self, answers: Callable[[], None], process: subprocess.Popen[bytes], seconds: float
    ) -> None:
        """Ask until the server answers.

        Errors: ServicesError with the end of its log, if it ended or gave no answer in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return answers()
            except Exception as error:  # whatever a client library raises while its server comes up
                reason = error
            code = process.poll()
            if code is not None:
                raise ServicesError(
                    f"{self.name} ended with code {code} while starting.\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                self.stop(signal.SIGTERM)
                raise ServicesError(
                    f"{self.name} gave no answer in {seconds:.0f} s: {reason}\n{self.last_lines()}"
                )
            time.sleep(0.1)

    def stop(self, polite: signal.Signals) -> bool:
        """End the server and wait until it is gone; true if it ran."""
        pid = self.pid()
        if pid is None:
            return False
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            # Asked again once the handle is held: the handle cannot come to mean another process,
            # the number can.
            if self.pid() != pid:
                return False
            for number in (polite, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], STOP_SECONDS)[0]:
                    return True
                print(
                    f"services: {self.name} did not end in {STOP_SECONDS} s; killing it",
                    file=sys.stderr,
                )
            raise ServicesError(f"{self.name} (process {pid}) cannot be ended.")
        except ProcessLookupError:
            return True
        finally:
            os.close(handle)

    def last_lines(self, count: int = 15) -> str:
        """Quote the end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return "(no log)"
        return "\n".join([f"last lines of {self.log}:", *(f"  {line}" for line in lines)])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time pass, among all checkouts that name the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], failure: str, log: Path, **environment: str) -> None:
    """Run a step to its end, its output in a file.

    Errors: ServicesError with `failure` and the last lines of the output.
    """
    with log.open("wb") as output:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    if result.returncode != 0:
        tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
        raise ServicesError(f"{failure}\n{tail}")


def find_program(name: str, package: str, log: Path) -> str:
    """Find a program; as root on a Debian-like system, install the package that has it."""
    program = shutil.which(name)
    if program is not None:
        return program
    missing = f"{name} is missing: install it (Debian and Ubuntu: apt-get install {package})."
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServicesError(missing)
    print(f"services: installing {package} with apt-get", file=sys.stderr)
    waiting = ["-o", "DPkg::Lock::Timeout=300"]  # another checkout may be installing the same
    install = ["apt-get", "-qq", "-y", *waiting, "--no-install-recommends", "install", package]
    try:
        run(install, missing, log, DEBIAN_FRONTEND="noninteractive")
    except ServicesError:  # a machine that never fetched its package lists knows no package
        run(["apt-get", "-qq", "update"], f"{missing} apt-get update failed:", log)
        run(install, missing, log, DEBIAN_FRONTEND="noninteractive")
    program = shutil.which(name)
    if program is None:
        raise ServicesError(missing)
    return program
