"""Hold what the pipeline made against the answer key, record by record and cell by cell."""

from __future__ import annotations

import time

import psycopg

from database.connection import connect
from flows.domain.batch import Origin
from flows.domain.family import Family
from flows.domain.rollups import Grain
from flows.domain.web import WEB
from flows.registry import cleaning, counting
from flows.runtime.settings import Settings
from shopstream.verify import checks
from shopstream.verify.checks import Check
from shopstream.verify.ledger import Ledger
from shopstream.verify.report import Report
from shopstream.verify.topics import Seen

# two runs of the job that `up` starts
ROLLUP_SECONDS = 20.0


def verify(ledger: Ledger, settings: Settings, seen: Seen, family: Family = WEB) -> Report:
    """Compare records, dead letters, tallies, the accounts and every cell of every view.

    Hours and days are not brought up to date here: that is the roll-up job's, which has half a
    minute. `seen` is what stands on the topics.
    """
    clean = Origin(cleaning(family).name, settings.topic(cleaning(family).reads))
    metrics = Origin(counting(family).name, clean.topic)
    with connect(settings.database_url, settings.startup_seconds) as db:
        db.execute("SET shopstream.synthetic = off")
        wait_for_rollup(db)
        letters = checks.read_dead_letters(db, clean)
        done = [
            checks.check_outcomes(ledger, seen, letters),
            checks.check_raw(ledger, seen),
            checks.check_clean_events(seen),
            *checks.check_dead_letters(ledger, seen, letters, family),
            *checks.check_tallies(ledger, db, clean, seen),
            checks.check_checked(ledger, db, clean, seen, family),
            checks.check_progress(ledger, db, metrics),
            checks.check_account(db, clean),
            checks.check_rollup_is_up_to_date(db),
        ]
        rows = 0
        unproved = []
        for metric in family.metrics:
            known = ledger.columns(metric.name)
            unproved += [f"{metric.name}.{m.name}" for m in metric.measures if m.name not in known]
            if known:
                minutes, expected_rows = checks.check_minutes(ledger, db, metric)
                coarser: list[Check] = [
                    checks.check_rollup(ledger, db, metric, grain)
                    for grain in (Grain.HOUR, Grain.DAY)
                ]
                done += [minutes, *coarser]
                rows += expected_rows
        losses = [
            f"{flow}: {topic} partition {partition}, {records} records from offset {start}, {why}"
            for flow, topic, partition, start, records, why in db.execute(
                "SELECT flow, topic, partition, from_offset, records, why FROM ops.losses"
                " ORDER BY 1, 2, 3, 4"
            )
        ]
    return Report(len(ledger.events), rows, done, unproved, losses)


def wait_for_rollup(db: psycopg.Connection) -> None:
    """Wait until the roll-up job has seen every change, or long enough."""
    until = time.monotonic() + ROLLUP_SECONDS
    while db.execute("SELECT count(*) FROM ops.changes").fetchone() != (0,):
        if time.monotonic() > until:
            return
        time.sleep(0.2)
