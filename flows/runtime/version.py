"""Which version of the package runs, and which commit."""

from __future__ import annotations

import subprocess
import tomllib
from importlib import metadata

from flows.runtime.paths import IS_CHECKOUT, ROOT

UNKNOWN = "unknown"


def version() -> str:
    """Give the version, of this checkout's pyproject.toml or of the installed package."""
    if IS_CHECKOUT:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    try:
        return metadata.version("shopstream")
    except metadata.PackageNotFoundError:
        return UNKNOWN


def commit() -> str:
    """Give the commit of this checkout; without git, SHOPSTREAM_BUILD_COMMIT has to name it."""
    if not (ROOT / ".git").exists():
        return UNKNOWN
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return answer.stdout.strip() if answer.returncode == 0 else UNKNOWN
