"""`shopstream retention`: drop what is older than the settings keep."""

from __future__ import annotations

import argparse
from contextlib import closing

from database.connection import connect
from database.retention import RetentionPolicy, drop_old_rows
from flows.runtime.settings import settings_or_exit


def add(parser: argparse.ArgumentParser) -> None:
    """Take no options."""
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Apply retention once, with a line per table that lost rows."""
    settings = settings_or_exit()
    with closing(connect(settings.database_url, settings.startup_seconds)) as db:
        dropped = drop_old_rows(db, RetentionPolicy.of(settings))
    for rows in dropped:
        print(f"{rows.table}: {rows.amount} before {rows.before:%Y-%m-%d}")
    if not dropped:
        print("nothing is old enough to be dropped")
    return 0
