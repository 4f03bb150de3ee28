"""Look whether the stored numbers account for every record."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from shopstream.doctor.finding import Finding

# counts of the newest minutes may still be on their way
OUTCOMES = """
SELECT coalesce(sum(abs(residue)), 0) FROM quality.residue_1m_by_partition
WHERE window_start < now() - interval '3 minutes'
"""
GOLD = "SELECT coalesce(sum(abs(gold_residue)), 0) FROM ops.gold_account"
LEDGER = "SELECT count(*), coalesce(sum(records), 0), max(found_at) FROM ops.losses"


def examine_numbers(db: psycopg.Connection) -> Iterator[Finding]:
    """Hold what was read against what is stored, and look into the ledger of losses."""
    (residue,) = db.execute(OUTCOMES).fetchone() or (0,)
    yield Finding(
        "records",
        "each has one outcome" if residue == 0 else f"outcomes are {residue:,} off",
        "" if residue == 0 else "See `ops.account`, and in docs/runbook.md `residue`",
    )
    (gold,) = db.execute(GOLD).fetchone() or (0,)
    yield Finding(
        "accepted events",
        "gold counts each" if gold == 0 else f"gold is {gold:,} off",
        "" if gold == 0 else "See `ops.gold_account`, and in docs/runbook.md `gold-residue`",
    )
    entries, records, newest = db.execute(LEDGER).fetchone() or (0, 0, None)
    if entries:
        # what an operator has accepted is no problem, but is to be known
        yield Finding(
            "ledger of losses",
            f"{records:,} records in {entries} entries, the newest of {newest:%Y-%m-%d %H:%M} UTC",
        )
    else:
        yield Finding("ledger of losses", "empty")
