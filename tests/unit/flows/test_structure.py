"""The shape of the code: imports point one way, the domain reads neither clock nor world, and
importing has no effects."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from flows import registry
from flows.connectors.avro.contracts import family_names
from flows.domain.families import FAMILIES
from flows.runtime.paths import ROOT

FLOWS = ROOT / "flows"
DOMAIN = sorted((FLOWS / "domain").rglob("*.py"))
MODULES = sorted(p for p in FLOWS.rglob("*.py") if p.name != "__init__.py")
ALLOWED = {"numpy", "polars", "pyarrow", "hirola", "numba"}
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


@pytest.mark.parametrize("path", sorted((FLOWS / "connectors").rglob("*.py")), ids=name)
def test_connectors_know_no_runtime_and_no_flow(path: Path) -> None:
    assert all(
        m.startswith(("flows.domain", "flows.connectors"))
        for m in imports(path)
        if m.startswith("flows")
    )


ROOMS = (
    # each may import itself and the rooms before it
    ("flows.domain",),
    ("flows.registry", "flows.connectors"),
    ("flows.runtime",),
    ("flows",),
    ("database",),
    ("generators", "shopstream", "grafana"),
    ("deploy",),
    ("shopstream.drills", "shopstream.drill"),
    ("bench", "tools"),
)
FLOW_FILES = {"flows.clean", "flows.metrics", "flows.dead_letters", "flows.quality"}


def graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, names of packages resolved to modules."""
    tops = {room[0].split(".")[0] for room in ROOMS} | {"shopstream", "grafana", "tools"}
    paths = {name(p): p for top in tops for p in (ROOT / top).rglob("*.py")}
    modules = {module.removesuffix(".__init__"): path for module, path in paths.items()}
    arrows: dict[str, set[str]] = {}
    for module, path in modules.items():
        arrows[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                arrows[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = str(node.module)
                below = {f"{base}.{alias.name}" for alias in node.names}
                arrows[module] |= {x if x in modules else base for x in below}
        arrows[module] &= modules.keys() - {module}
    return arrows


GRAPH = graph()


def room_of(module: str) -> int:
    rooms = {prefix: i for i, prefixes in enumerate(ROOMS) for prefix in prefixes}
    fitting = [p for p in rooms if module == p or module.startswith(f"{p}.")]
    return rooms[max(fitting, key=len)]


def test_imports_point_one_way() -> None:
    upward = [
        f"{module} -> {target}"
        for module, targets in GRAPH.items()
        for target in targets
        if room_of(target) > room_of(module)
    ]
    assert upward == []


def test_no_import_runs_in_a_circle() -> None:
    order = TopologicalSorter(GRAPH)
    order.prepare()  # raises CycleError, which names the circle


def test_all_below_flows_is_imported_by_a_flow_process() -> None:
    reached, waiting = set[str](), [*FLOW_FILES, "flows.runtime.launch"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            packages = [module.rsplit(".", i)[0] for i in range(1, module.count(".") + 1)]
            waiting += [*GRAPH[module], *packages]
    assert {m for m in GRAPH if m.startswith("flows")} - reached == set()
    assert {m for m in reached if not m.startswith("flows")} == set()


def test_every_flow_file_is_in_the_registry_and_at_the_top() -> None:
    files = {f"flows.{p.stem}" for p in FLOWS.glob("*.py")}
    assert files - {"flows.__init__", "flows.registry"} == FLOW_FILES
    assert {flow.module for flow in registry.FLOWS} == FLOW_FILES


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


def test_every_family_is_a_contract_and_a_value() -> None:
    assert family_names() == sorted(family.name for family in FAMILIES)


def test_settings_are_read_without_the_decoders() -> None:
    """Commands that decode nothing start in half the time."""
    script = "import sys, flows.runtime.settings; print({'polars', 'pyarrow'} & sys.modules.keys())"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout == "set()\n"
