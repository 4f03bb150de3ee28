"""What runs: the version of pyproject.toml, and the commit."""

from __future__ import annotations

import subprocess
import tomllib

from flows.runtime.services import ROOT

UNKNOWN = "unknown"


def version() -> str:
    """An image may leave pyproject.toml out."""
    try:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return UNKNOWN


def commit() -> str:
    """The commit of this checkout; what has no git says it by SHOPSTREAM_BUILD_COMMIT."""
    if not (ROOT / ".git").exists():
        return UNKNOWN
    try:
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return found.stdout.strip() if found.returncode == 0 else UNKNOWN
