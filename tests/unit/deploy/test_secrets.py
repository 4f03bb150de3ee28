"""`make secrets`: passwords on first use and kept, readable in containers, not on the host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import written

SCRIPT = ROOT / "deploy" / "secrets.sh"
NAMES = set(written()["secrets"])


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT)],
        env={**os.environ, "SECRETS_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
    )


def read(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def test_each_secret_of_compose_is_made_and_no_two_are_alike(folder: Path) -> None:
    assert make(folder).returncode == 0
    secrets = read(folder)
    assert secrets.keys() == NAMES
    assert len(set(secrets.values())) == len(NAMES)
    # no $, which Grafana expands; no /, @ or :, which a URL does; no line feed, which some images
    # keep
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", secret) for secret in secrets.values())


def test_two_checkouts_share_no_secret(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    assert not set(read(tmp_path / "a").values()) & set(read(tmp_path / "b").values())


def test_a_second_run_keeps_what_is_there_and_makes_what_is_missing(folder: Path) -> None:
    make(folder)
    first = read(folder)
    (folder / "grafana_secret_key").unlink()
    again = make(folder)
    assert again.returncode == 0
    assert "new: grafana_secret_key" in again.stdout
    second = read(folder)
    assert {n: s for n, s in second.items() if n != "grafana_secret_key"} == {
        n: s for n, s in first.items() if n != "grafana_secret_key"
    }
    assert second["grafana_secret_key"] != first["grafana_secret_key"]
    assert not any(secret in again.stdout + again.stderr for secret in second.values())


def test_the_folder_keeps_others_out_and_the_files_let_every_container_in(folder: Path) -> None:
    old = os.umask(0)
    try:
        make(folder)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


def test_modes_that_were_changed_are_mended(folder: Path) -> None:
    make(folder)
    folder.chmod(0o755)
    (folder / "grafana_secret_key").chmod(0o600)
    make(folder)
    test_modes = {
        folder.stat().st_mode & 0o777,
        (folder / "grafana_secret_key").stat().st_mode & 0o777,
    }
    assert test_modes == {0o700, 0o644}


def test_several_at_once_agree(folder: Path) -> None:
    environment = {**os.environ, "SECRETS_FOLDER": str(folder)}
    running = [
        subprocess.Popen(["sh", str(SCRIPT)], env=environment, stdout=subprocess.DEVNULL)
        for _ in range(6)
    ]
    assert [process.wait(30) for process in running] == [0] * 6
    assert read(folder).keys() == NAMES, "no half of a password is left"


@pytest.mark.parametrize(
    "content",
    ["", "short", "with $dollar signs in it", "quote'and space, long enough", "a" * 20 + "\nb"],
)
def test_a_secret_that_would_break_something_is_told_and_kept(folder: Path, content: str) -> None:
    make(folder)
    (folder / "grafana_db_password").write_text(content)
    result = make(folder)
    assert result.returncode == 1
    assert "grafana_db_password must be one line" in result.stderr
    assert (folder / "grafana_db_password").read_text() == content


def test_a_password_of_ones_own_is_taken(folder: Path) -> None:
    folder.mkdir()
    (folder / "grafana_admin_password").write_text("chosen_by-the-operator-1\n")
    assert make(folder).returncode == 0
    assert (folder / "grafana_admin_password").read_text() == "chosen_by-the-operator-1\n"


def test_make_secrets_is_this_script(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    result = subprocess.run(
        ["make", "--silent", "secrets"],
        cwd=ROOT,
        env={**os.environ, "SECRETS_FOLDER": str(tmp_path / "s")},
        timeout=30,
    )
    assert result.returncode == 0
    assert read(tmp_path / "s").keys() == NAMES
