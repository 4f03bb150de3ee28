"""The healthchecks of docker-compose.yml, run as they are written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import services

SERVICES = services()


def check(
    name: str, replaced: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a service's healthcheck with other addresses in it.

    As Docker does, it ends one that takes longer than its timeout.
    """
    kind, *words = SERVICES[name]["healthcheck"]["test"]
    command = words if kind == "CMD" else ["sh", "-c", *words]
    for old, new in replaced.items():
        assert any(old in word for word in command), f"{old} is not in the healthcheck of {name}"
        command = [word.replace(old, new) for word in command]
    if command[0] in ("python", "python3"):
        command[0] = sys.executable
    if (program := shutil.which(command[0], path=environment.get("PATH"))) is None:
        pytest.skip(f"needs {command[0]}")
    seconds = int(SERVICES[name]["healthcheck"]["timeout"].removesuffix("s"))
    process = subprocess.Popen(
        [program, *command[1:]],
        env=os.environ | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def kafka(port: int) -> int:
    return check("kafka", {"127.0.0.1/9092": f"127.0.0.1/{port}"}).returncode
