"""The wheel: what it holds, and that both commands run from it in any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from flows.runtime.paths import ROOT

pytestmark = pytest.mark.slow  # it builds and installs

PACKAGES = {"flows", "database", "shopstream", "generators", "grafana"}
# each file of these folders is in the wheel, at that place
DATA = {
    "avro": "flows/avro",
    "database/sql": "database/sql",
    "grafana/provisioning": "grafana/provisioning",
    "prometheus/rules": "grafana/prometheus/rules",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("shopstream-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    ours = sysconfig.get_path("purelib")
    (site_packages / "packages_of_the_tests.pth").write_text(f"{ours}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "-q", "--no-deps"]
    result = subprocess.run(
        [*pip, "--no-index", str(wheel)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return folder / "bin"


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, with nothing of this process's paths or settings."""
    surroundings = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "SHOPSTREAM", "KAFKA", "DATABASE", "SCHEMA"))
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=surroundings | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_holds_the_packages_and_nothing_of_development(names: set[str]) -> None:
    (metadata,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == PACKAGES | {metadata}
    assert f"{metadata}/licenses/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name or "/." in name]


@pytest.mark.parametrize(("folder", "place"), DATA.items())
def test_it_holds_every_file_that_the_packages_read(
    folder: str, place: str, names: set[str]
) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert files
    assert {f"{place}/{path.relative_to(ROOT / folder)}" for path in files} <= names


def test_it_holds_every_module(names: set[str]) -> None:
    modules = {
        str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}


def test_the_operators_command_runs_in_any_folder(installed: Path, tmp_path: Path) -> None:
    result = run(tmp_path, installed / "shopstream", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "KAFKA_BOOTSTRAP_SERVERS" in result.stdout


def test_the_generator_runs_in_any_folder(installed: Path, tmp_path: Path) -> None:
    options = ["run", "--events", "20", "--sink", "stdout", "--format", "json", "--speed", "0"]
    result = run(tmp_path, installed / "shopstream-generate", *options)
    assert result.returncode == 0, result.stderr
    assert len([json.loads(line) for line in result.stdout.splitlines()]) >= 20


def test_its_modules_find_their_files_and_work_in_the_users_folder(
    installed: Path, tmp_path: Path
) -> None:
    script = """
from database.migrate import SQL
from flows.connectors.avro.schemas import FOLDER, load
from flows.runtime.paths import IS_CHECKOUT, WORK
from flows.runtime.version import version
import flows.clean
assert not IS_CHECKOUT
assert list(SQL.glob("*.sql"))
assert load("web_event")
print(WORK, version(), flows.clean.__file__)
"""
    result = run(tmp_path, installed / "python", "-c", script)
    assert result.returncode == 0, result.stderr
    work, version, module = result.stdout.split()
    assert work == str(tmp_path / ".local/state/shopstream")
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert Path(module).is_relative_to(installed.parent)
