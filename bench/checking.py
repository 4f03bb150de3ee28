"""Whether what was measured is right: the numbers in the database add up to what was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.places import Place
from flows.runtime.migrate import connect
from flows.runtime.services import ROOT

COUNTED = "SELECT coalesce(sum(events), 0)::bigint FROM gold.traffic_1m"
JUDGED = (
    "SELECT coalesce(sum(records), 0)::bigint, coalesce(sum(records) FILTER (WHERE outcome = 'accepted'), 0)::bigint"
    " FROM quality.outcomes_1m WHERE flow = 'clean' AND source_topic = %s"
)


def counted(place: Place) -> int:
    """Events in the traffic table."""
    with connect(place.settings.database_url, 10.0) as db:
        return int(db.execute(COUNTED).fetchall()[0][0])


def check_chain(place: Place, sent: int) -> int:
    """Give the number of accepted events. Errors: BenchError when outcomes or gold do not add up to what was sent."""
    with connect(place.settings.database_url, 10.0) as db:
        judged, accepted = db.execute(JUDGED, (place.settings.topic_raw_web,)).fetchall()[0]
    if judged != sent:
        raise BenchError(f"{sent} records were sent, but {judged} have an outcome")
    check_counted(place, accepted)
    return int(accepted)


def check_counted(place: Place, accepted: int) -> None:
    """Errors: BenchError when gold holds another number of events than were accepted."""
    if (found := counted(place)) != accepted:
        raise BenchError(f"{accepted} events were accepted, but gold.traffic_1m counts {found}")


def verify(place: Place, ledger: Path) -> str:
    """Hold a drained place against the generator's answer key; gives the last line. Errors: BenchError on a difference."""
    done = subprocess.run(
        [sys.executable, "-m", "shopstream", "verify", "--ledger", str(ledger)],
        cwd=ROOT, env={**os.environ, **place.environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines() or ["verify said nothing"]
    if done.returncode:
        raise BenchError("\n".join(lines[-20:]))
    return lines[-1]
