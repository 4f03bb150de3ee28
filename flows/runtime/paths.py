"""Where the project's files are: in a checkout, or installed from a wheel."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout; where the project is installed, the folder of the packages."""

IS_CHECKOUT = (ROOT / "pyproject.toml").exists()

WORK = (
    ROOT / ".shopstream"
    if IS_CHECKOUT
    else Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shopstream"
)
"""What runs leave behind: logs, demos, the services of this checkout."""
