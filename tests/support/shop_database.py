"""A database with a small shop in it, and a session in it as Grafana has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import TupleRow

from shopstream.demo.dev_services import Services
from tests.support.databases import grafana_session, new_database
from tests.support.seeding import Span, seed

DAYS_OF_LETTERS = 2


@dataclass(frozen=True)
class Shop:
    """A database with rows of `[start, end)`; `reader` is a connection as Grafana has it."""

    url: str
    timescale: bool
    start: datetime
    end: datetime
    reader: psycopg.Connection[TupleRow]


@contextmanager
def open_shop(server: Services, end: datetime, days: int) -> Iterator[Shop]:
    """Make a database with the rows of so many days; with no days it is empty."""
    start = end - timedelta(days=days)
    with new_database(server) as database:
        if days:
            with database.connect() as db:
                seed(db, Span(start, end, letters=end - timedelta(days=DAYS_OF_LETTERS)))
        with grafana_session(database) as reader:
            yield Shop(database.url, database.timescale, start, end, reader)
