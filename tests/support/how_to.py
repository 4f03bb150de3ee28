"""Carry out a page of docs/how-to in a copy of this checkout.

A fenced block that names a file is a step: ```diff changes it (lines with `-` are removed, lines
with `+` added, the others say where), any other kind is the whole of a new file. A ```sh block is
run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.runtime.paths import ROOT
from tests.support.stack import Stack

COPIED = (
    "avro",
    "database",
    "docs",
    "flows",
    "generators",
    "grafana",
    "prometheus",
    "shopstream",
    "tools",
    "docker-compose.yml",
    "pyproject.toml",
)
BLOCK = re.compile(r"^( *)```(\w+)(?: (\S+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass
class Copy:
    """A copy of the checkout, in which Python finds the copy's packages."""

    folder: Path
    environment: Mapping[str, str]
    outputs: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, environment: Mapping[str, str]) -> Copy:
        """Copy what the pages need; pictures are of no use to them."""
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        return cls(folder, environment)

    def carry_out(self, page: str) -> None:
        """Do every step of a page, in order."""
        text = (ROOT / "docs" / "how-to" / page).read_text()
        for indent, kind, path, body in BLOCK.findall(text):
            step = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
            if kind == "sh":
                self.sh(step)
            elif kind == "diff":
                self.change(self.folder / path, step)
            elif path:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / path).write_text(step)

    def change(self, path: Path, step: str) -> None:
        """Replace the one place of a file that the step's context and `-` lines describe."""
        # an editor strips the blank that makes an empty line a line of context
        lines = [line if line.strip() else " \n" for line in step.splitlines(keepends=True)]
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        text = path.read_text()
        assert text.count(before) == 1, f"{path.name} has {text.count(before)} times:\n{before}"
        path.write_text(text.replace(before, after))

    def sh(self, step: str) -> None:
        """Run commands as a reader would, with this Python in place of the checkout's own."""
        commands = step.replace(".venv/bin/python", sys.executable)
        result = subprocess.run(
            ["sh", "-euc", commands],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, f"{step}\n{result.stdout}\n{result.stderr}"
        self.outputs.append(result.stdout)

    def start(self, stack: Stack, flow: str) -> None:
        """Run a flow of the copy, as a process of the stack."""
        command = [sys.executable, "-m", "flows.runtime.launch", flow]
        stack.run_in(self.folder, flow, command, self.environment)
