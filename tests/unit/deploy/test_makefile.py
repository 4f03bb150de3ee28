"""The Makefile lists every command, and what names a command names one that is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.runtime.paths import ROOT

TEXT = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][\w-]*):(?!=)", TEXT, re.MULTILINE))
# the files whose commands a reader types
NAMING = ("CONTRIBUTING.md", "SECURITY.md", ".ci/run", ".pre-commit-config.yaml", ".env.example")


def test_every_command_is_phony() -> None:
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    assert set(phony.replace("\\\n", " ").split()) == TARGETS


def test_help_lists_every_command() -> None:
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert set(re.findall(r"^  make (\S+) +\S", result.stdout, re.MULTILINE)) == TARGETS


@pytest.mark.parametrize("path", NAMING)
def test_a_command_that_is_named_is_there(path: str) -> None:
    words = re.findall(
        r"(?:`|^|entry: )make (?:--silent )?([a-z-]+)", (ROOT / path).read_text(), re.M
    )
    assert words
    assert set(words) <= TARGETS


def test_the_public_ci_runs_what_a_change_must_pass() -> None:
    (job,) = _yaml(ROOT / ".github/workflows/ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert all(step["uses"].startswith("actions/") for step in job["steps"][:-1])


def test_hooks_are_local() -> None:
    repositories = _yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]


def _yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return loaded
