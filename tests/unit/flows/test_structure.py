"""The shape of the code: imports point one way, the domain has no clock and no world, and nothing
happens at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT

FLOWS = ROOT / "flows"
DOMAIN = sorted((FLOWS / "domain").glob("*.py"))
MODULES = sorted(p for p in FLOWS.rglob("*.py") if p.name != "__init__.py")
ALLOWED = {"numpy", "polars", "pyarrow", "hirola"}
WORLDLY = {
    "os",
    "io",
    "time",
    "socket",
    "random",
    "subprocess",
    "threading",
    "pathlib",
    "urllib",
    "logging",
    "tempfile",
    "secrets",
}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "environ", "getenv"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_the_domain_imports_nothing_of_the_world(path: Path) -> None:
    for module in imports(path):
        top = module.split(".")[0]
        ours = module.startswith("flows.domain")
        assert ours or top in ALLOWED or top in sys.stdlib_module_names - WORLDLY, module


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_the_domain_asks_no_clock_and_no_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, ast.unparse(node)
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv"), ast.unparse(node)


@pytest.mark.parametrize("path", sorted((FLOWS / "connectors").glob("*.py")), ids=name)
def test_connectors_know_no_runtime_and_no_flow(path: Path) -> None:
    assert all(
        m.startswith(("flows.domain", "flows.connectors"))
        for m in imports(path)
        if m.startswith("flows")
    )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_of_the_flows_knows_what_stands_on_them(path: Path) -> None:
    assert not {m.split(".")[0] for m in imports(path)} & {
        "generators",
        "shopstream",
        "bench",
        "deploy",
        "tests",
    }


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    script = """
import importlib, os, signal, socket, sys, threading
def refuse(*a, **k): raise AssertionError("a connection at import")
socket.socket.connect = refuse
before, handler = set(os.listdir()), signal.getsignal(signal.SIGTERM)
for module in sys.argv[1:]:
    importlib.import_module(module)
assert threading.active_count() == 1, threading.enumerate()
assert set(os.listdir()) == before
assert signal.getsignal(signal.SIGTERM) is handler
"""
    modules = [name(p) for p in MODULES if p.name != "__main__.py"]
    bogus = {
        "PYTHONPATH": str(ROOT),
        "KAFKA_BOOTSTRAP_SERVERS": "?",
        "DATABASE_URL": "?",
        "SHOPSTREAM_COUNT": "x",
        "SHOPSTREAM_NO_SUCH_SETTING": "1",
        "SCHEMA_REGISTRY_URL": "?",
    }
    result = subprocess.run(
        [sys.executable, "-c", script, *modules],
        env=bogus,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
