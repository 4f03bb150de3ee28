"""Check what was measured: the numbers in the database must add up to what was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.sandbox import Sandbox
from database.connection import connect
from flows.runtime.paths import ROOT

COUNTED = "SELECT coalesce(sum(events), 0)::bigint FROM gold.traffic_1m"
JUDGED = (
    "SELECT coalesce(sum(records), 0)::bigint, coalesce(sum(records) FILTER (WHERE outcome ="
    " 'accepted'), 0)::bigint FROM quality.outcomes_1m WHERE flow = 'clean' AND source_topic = %s"
)


def counted_events(sandbox: Sandbox) -> int:
    """Count the events in the traffic table."""
    with connect(sandbox.settings.database_url, 10.0) as db:
        return int(db.execute(COUNTED).fetchall()[0][0])


def check_chain(sandbox: Sandbox, sent: int) -> int:
    """Give the number of accepted events.

    Errors: BenchError when outcomes or gold do not add up to what was sent.
    """
    with connect(sandbox.settings.database_url, 10.0) as db:
        judged, accepted = db.execute(
            JUDGED, (sandbox.settings.topic("topic_raw_web"),)
        ).fetchall()[0]
    if judged != sent:
        raise BenchError(f"{sent} records were sent, but {judged} have an outcome")
    check_counted(sandbox, accepted)
    return int(accepted)


def check_counted(sandbox: Sandbox, accepted: int) -> None:
    """Compare gold with the number of accepted events.

    Errors: BenchError when they differ.
    """
    if (events := counted_events(sandbox)) != accepted:
        raise BenchError(f"{accepted} events were accepted, but gold.traffic_1m counts {events}")


def verify(sandbox: Sandbox, ledger: Path) -> str:
    """Compare a drained sandbox with the generator's answer key, and give the last line of output.

    Errors: BenchError on a difference.
    """
    process = subprocess.run(
        [sys.executable, "-m", "shopstream", "verify", "--roll-up", "--ledger", str(ledger)],
        cwd=ROOT,
        env={**os.environ, **sandbox.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = (process.stdout + process.stderr).strip().splitlines() or ["verify printed nothing"]
    if process.returncode:
        raise BenchError("\n".join(lines[-20:]))
    return lines[-1]
