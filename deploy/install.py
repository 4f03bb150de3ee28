"""Install a lock into the environment that runs this: `python -m deploy.install LOCK`.

deploy/python.sh runs it in an empty environment, so it imports the standard library alone. uv
installs where it is there (the demo's 34 packages on two cores: 3 s, pip 16 s), else pip. Both
follow the settings that this machine has for pip.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

UV = Path(".shopstream", "uv", "bin", "uv")
PROGRESS_SECONDS = 5.0
LAST_LINES = 15

# pip's option -> uv's variable, and what stands there between several values
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}
# as in pip, a later one wins
PIP_SECTIONS = ("global", "install", ":env:")

UV_STARTS = re.compile(r"Downloading (\S+) \(([\d.]+)MiB\)")
UV_ENDS = re.compile(r"Downloaded (\S+)")
PIP_STARTS = re.compile(r"(?:Downloading|Using cached) \S+\.whl \(([\d.]+) MB\)")
UNPACKS = re.compile(r"Prepared \d|Installing collected")


@dataclass
class Progress:
    """How far an installation is, by what uv or pip prints.

    Units: megabytes of 10^6 bytes. Archives below one megabyte are not counted: uv does not name
    them.
    """

    total_mb: int | None
    fetched_mb: float = 0.0
    unpacks: bool = False
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _under_way: dict[str, float] = field(default_factory=dict)

    def read(self, line: str) -> None:
        """Take in one line."""
        line = line.strip()
        self.last_lines.append(line)
        if start := UV_STARTS.match(line):
            self._under_way[start[1]] = float(start[2]) * 1.048576
        elif end := UV_ENDS.match(line):
            self.fetched_mb += self._under_way.pop(end[1], 0.0)
        elif start := PIP_STARTS.match(line):
            self.fetched_mb += float(start[1])
        elif UNPACKS.match(line):
            self.unpacks = True

    def describe(self) -> str:
        """Say it in a few words."""
        if self.unpacks:
            return "unpacking"
        return f"{self.fetched_mb:.0f} MB" + (f" of {self.total_mb}" if self.total_mb else "")


def weight(lock: Path) -> tuple[int, int] | None:
    """Read how many packages and megabytes a lock is, from the line that deploy/lock.sh writes."""
    with lock.open() as lines:
        match = re.match(r"# (\d+) packages, (\d+) MB", lines.readline())
    return (int(match[1]), int(match[2])) if match else None


def uv_variables(pip_settings: str) -> dict[str, str]:
    """Translate the output of `pip config list` into the variables that uv reads."""
    values: dict[str, tuple[int, str]] = {}
    for line in pip_settings.splitlines():
        key, _, quoted = line.partition("=")
        section, _, option = key.rpartition(".")
        if section not in PIP_SECTIONS or option not in UV_VARIABLES:
            continue
        name, separator = UV_VARIABLES[option]
        rank = PIP_SECTIONS.index(section)
        if rank >= values.get(name, (0, ""))[0]:
            values[name] = rank, separator.join(str(ast.literal_eval(quoted)).split())
    return {name: value for name, (_, value) in values.items()}


def run(command: list[str], environment: dict[str, str], progress: Progress) -> bool:
    """Run an installer to its end, with a line on its progress every few seconds."""
    began = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        reader = Thread(target=_read_all, args=(process.stdout, progress), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(PROGRESS_SECONDS)
            if reader.is_alive():
                say(f"{progress.describe()}, {time.monotonic() - began:.0f} s")
    return process.returncode == 0


def _read_all(output: IO[str], progress: Progress) -> None:
    for line in output:
        progress.read(line)


def install_with_uv(lock: Path, progress: Progress) -> bool:
    """Let uv install. False: it is not there, or it could not."""
    if not UV.exists():
        return False
    pip = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(pip, capture_output=True, text=True).stdout
    # hashes say what is installed, so whichever index has it will do, as with pip
    defaults = {"UV_INDEX_STRATEGY": "unsafe-best-match", **uv_variables(settings)}
    command = [str(UV), "pip", "install", "--python", sys.executable]
    options = ["--require-hashes", "--no-deps", "-r", str(lock)]
    return run([*command, *options], {**defaults, **os.environ}, progress)


def install_with_pip(lock: Path, progress: Progress) -> bool:
    """Let pip install."""
    command = [sys.executable, "-m", "pip", "install", "--progress-bar", "off"]
    # what is imported is compiled then; compiling all of it takes pip another third of its time
    options = ["--no-compile", "--require-hashes", "--no-deps", "-r", str(lock)]
    return run([*command, *options], dict(os.environ), progress)


def say(text: str) -> None:
    """Write a line for the person who waits."""
    print(f"python: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Install the lock that is named. Exit code 1: neither uv nor pip could."""
    lock = Path(arguments[0])
    known = weight(lock)
    size = f": {known[0]} packages, at most {known[1]} MB to fetch" if known else ""
    say(f"installing {lock} into .venv{size}")
    began = time.monotonic()
    for install in (install_with_uv, install_with_pip):
        progress = Progress(known[1] if known else None)
        if install(lock, progress):
            say(f"installed in {time.monotonic() - began:.0f} s")
            return 0
        for line in progress.last_lines:
            print(f"  {line}", file=sys.stderr)
    say("neither uv nor pip could install it")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
