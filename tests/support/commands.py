"""A command of the operator, run as a process on the database of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from flows.runtime.paths import ROOT
from tests.support.databases import Database

SECONDS = 60


@dataclass(frozen=True)
class Ran:
    """What became of it."""

    code: int
    out: str
    error: str


def shopstream(database: Database, *words: str) -> Ran:
    ran = subprocess.run(
        [sys.executable, "-m", "shopstream", *words],
        env={**os.environ, "DATABASE_URL": database.url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return Ran(ran.returncode, ran.stdout.strip(), ran.stderr.strip())
