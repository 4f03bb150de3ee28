"""`shopstream retention`: drop what is older than the settings keep."""

from __future__ import annotations

import argparse
from contextlib import closing

import psycopg

from database.connection import connect
from database.maintenance import broken_contract, keep
from database.retention import forget
from flows.runtime.settings import settings_or_exit


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    settings = settings_or_exit()
    try:
        with closing(connect(settings.database_url, settings.startup_seconds)) as db:
            gone = forget(db, keep(settings))
    except psycopg.Error as error:
        raise broken_contract(error) from error
    for one in gone:
        print(f"{one.table}: {one.what} before {one.before:%Y-%m-%d}")
    if not gone:
        print("nothing is old enough to be forgotten")
    return 0
