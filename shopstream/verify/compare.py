"""Hold what the pipeline made against the answer key, record by record and cell by cell."""

from __future__ import annotations

from database.connection import connect
from database.rollup import roll_up
from flows.domain.batch import Origin
from flows.domain.family import Family
from flows.domain.rollups import Grain
from flows.domain.web import WEB
from flows.registry import cleaning
from flows.runtime.settings import Settings
from shopstream.verify.checks import (
    check_dead_letters,
    check_minutes,
    check_outcomes,
    check_rollup,
    check_tallies,
    read_dead_letters,
)
from shopstream.verify.clean_offsets import Coordinates
from shopstream.verify.ledger import Ledger
from shopstream.verify.report import Report


def verify(
    ledger: Ledger, settings: Settings, accepted: set[Coordinates], family: Family = WEB
) -> Report:
    """Compare outcomes, dead letters, tallies and every cell of every view.

    Hours and days are brought up to date first: flows may just have written. `accepted` holds the
    coordinates of the raw records that came out of clean.
    """
    flow = cleaning(family)
    clean = Origin(flow.name, settings.topic(flow.reads))
    with connect(settings.database_url, settings.startup_seconds) as db:
        db.execute("SET shopstream.synthetic = off")
        roll_up(db)
        letters = read_dead_letters(db, clean)
        checks = [
            check_outcomes(ledger, accepted, letters),
            check_dead_letters(ledger, letters),
            *check_tallies(ledger, db, clean),
        ]
        rows = 0
        unproved = []
        for metric in family.metrics:
            known = ledger.columns(metric.name)
            unproved += [f"{metric.name}.{m.name}" for m in metric.measures if m.name not in known]
            if known:
                minutes, expected_rows = check_minutes(ledger, db, metric)
                coarser = [check_rollup(db, metric, grain) for grain in (Grain.HOUR, Grain.DAY)]
                checks += [minutes, *coarser]
                rows += expected_rows
    return Report(len(ledger.events), rows, checks, unproved)
