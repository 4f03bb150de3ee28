"""What the runbook tells people to run, runs: its SQL on both kinds of database as Grafana's role,
its PromQL, its commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.runtime.paths import ROOT
from tests.support.databases import Database, grafana_session
from tests.support.prometheus import promtool

TEXT = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = {s.split("\n", 1)[0]: s for s in TEXT.split("\n## ")[1:]}
ALERTS = {name: text for name, text in SECTIONS.items() if name != "Replay"}


def blocks(kind: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("section", ALERTS)
def test_a_section_says_what_it_means_how_to_look_and_what_to_do(section: str) -> None:
    parts = [
        ALERTS[section].find(f"**{part}.**")
        for part in ("What it means", "How to look", "What to do")
    ]
    assert -1 < parts[0] < parts[1] < parts[2]
    look = ALERTS[section][parts[1] : parts[2]]
    assert blocks("sql", look) or blocks("promql", look)


def test_its_sql_runs(database: Database) -> None:
    statements = blocks("sql")
    assert len(statements) >= len(ALERTS)
    with grafana_session(database) as reader:
        for statement in statements:
            assert statement.rstrip().endswith(";")
            reader.execute(statement.encode()).fetchall()


def test_its_promql_is_understood(prometheus_programs: Path, tmp_path: Path) -> None:
    rules = [{"record": f"r{i}", "expr": expr.strip()} for i, expr in enumerate(blocks("promql"))]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": rules}]}))
    promtool(prometheus_programs, "check", "rules", str(path))


def test_its_commands_are_there() -> None:
    commands = {line for block in blocks("sh") for line in block.splitlines()}
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        assert program == ".venv/bin/python"
        result = subprocess.run(
            [sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        assert words[-1] in result.stdout


def test_files_that_it_names_are_there() -> None:
    for name in re.findall(r"`((?:flows|docs|grafana|avro)/[\w./]*)`", TEXT):
        assert (ROOT / name).exists(), name
