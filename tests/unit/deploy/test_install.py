"""How `make demo` and `make venv` install: progress, pip's settings for uv, and what is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from deploy.install import Progress, main, uv_variables, weight
from flows.runtime.paths import ROOT

LEVELS = {"demo": "deploy/demo.lock", "all": "requirements.lock"}


def read(progress: Progress, output: str) -> str:
    for line in output.splitlines():
        progress.read(line)
    return progress.describe()


def test_progress_counts_what_uv_has_fetched() -> None:
    progress = Progress(178)
    assert read(progress, "Resolved 34 packages in 2ms\nDownloading numpy (16.1MiB)") == (
        "0 MB of 178"
    )
    assert read(progress, " Downloaded numpy") == "17 MB of 178"
    assert read(progress, "Prepared 34 packages in 2.43s") == "unpacking"


def test_progress_counts_what_pip_fetches() -> None:
    progress = Progress(None)
    output = """Collecting numpy==2.4.6 (from -r deploy/demo.lock (line 158))
  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.9 MB)
  Using cached faker-40.54.0-py3-none-any.whl (2.1 MB)"""
    assert read(progress, output) == "19 MB"
    assert read(progress, "Installing collected packages: numpy, faker") == "unpacking"


def test_uv_gets_the_settings_that_pip_has_the_nearest_one_wins() -> None:
    settings = """:env:.find-links='/wheels /more'
:env:.disable-pip-version-check='1'
global.index-url='https://mirror.example/simple'
install.index-url='https://nearer.example/simple'
download.index-url='https://other.example/simple'
global.cert='/etc/ca.pem'
global.extra-index-url='https://a.example\\nhttps://b.example'"""
    assert uv_variables(settings) == {
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_DEFAULT_INDEX": "https://nearer.example/simple",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX": "https://a.example https://b.example",
    }


@pytest.mark.parametrize("lock", LEVELS.values())
def test_a_lock_says_how_much_it_fetches(lock: str) -> None:
    size = weight(ROOT / lock)
    assert size is not None, "run `make lock`"
    pins = sum("==" in line for line in (ROOT / lock).read_text().splitlines())
    assert pins - 5 <= size[0] <= pins, "a few pins are for other systems alone"


def test_what_cannot_be_installed_says_what_the_installer_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / "none.lock"
    lock.write_text("shopstream-is-not-a-package==1 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert main([str(lock)]) == 1
    assert (
        "No matching distribution found for shopstream-is-not-a-package" in capfd.readouterr().err
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv and uv are stand-ins: they write down what they would do."""
    (tmp_path / "deploy").mkdir()
    for name in ("deploy/python.sh", *LEVELS.values()):
        shutil.copy(ROOT / name, tmp_path / name)
    stub(tmp_path / ".shopstream/uv/bin/uv", "exit 0")
    venv = 'mkdir -p .venv/bin && cp "$0" .venv/bin/python'
    script = f'case "$*" in *"-m venv"*) {venv} ;; -c*) exit 0 ;; esac; echo "$*" >>calls'
    stub(tmp_path / "python", script)
    return tmp_path


def stub(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def install(checkout: Path, level: str) -> list[str]:
    """What python.sh ran for a level: `venv` for a new environment, else the lock."""
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    subprocess.run(
        ["sh", "deploy/python.sh", level],
        cwd=checkout,
        env=os.environ | {"PYTHON": str(checkout / "python")},
        check=True,
        capture_output=True,
        timeout=20,
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    return ["venv" if "-m venv" in line else line.split()[-1] for line in lines]


def outdate(path: Path) -> None:
    later = time.time() + 60
    os.utime(path, (later, later))


def test_a_demo_installs_its_lock_and_everything_else_is_added(checkout: Path) -> None:
    assert install(checkout, "demo") == ["venv", "deploy/demo.lock"]
    assert install(checkout, "demo") == []
    assert install(checkout, "all") == ["requirements.lock"]
    assert install(checkout, "all") == install(checkout, "demo") == []


def test_a_demo_needs_nothing_where_everything_is_installed(checkout: Path) -> None:
    assert install(checkout, "all") == ["venv", "requirements.lock"]
    assert install(checkout, "demo") == []


@pytest.mark.parametrize(("level", "lock"), LEVELS.items())
def test_a_lock_that_changed_gets_a_new_environment(checkout: Path, level: str, lock: str) -> None:
    install(checkout, level)
    outdate(checkout / lock)
    assert install(checkout, level) == ["venv", lock]
