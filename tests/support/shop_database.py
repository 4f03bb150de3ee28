"""A database with a small shop in it, and a session in it as Grafana has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from database.connection import connect
from database.migrate import migrate
from shopstream.demo.dev_services import Services, drop_database
from tests.support.seeding import seed


@dataclass(frozen=True)
class Shop:
    """A database with rows of `[start, end)`; `reader` is a connection as Grafana has it."""

    url: str
    timescale: bool
    start: datetime
    end: datetime
    reader: psycopg.Connection[TupleRow]


@contextmanager
def grafana(
    owner: psycopg.Connection[TupleRow], url: str, name: str
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A session of a login role that is a member of shopstream_reader, with the limits that a login
    has to be given itself."""
    role = sql.Identifier(name)
    owner.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE shopstream_reader").format(
            role, sql.Literal(name)
        )
    )
    try:
        owner.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role))
        owner.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '5s'").format(role))
        with psycopg.connect(make_conninfo(url, user=name, password=name), autocommit=True) as db:
            yield db
    finally:
        owner.execute(sql.SQL("DROP ROLE {}").format(role))


def shops(server: Services, days: int) -> Iterator[Shop]:
    name = f"t{uuid4().hex[:12]}"
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    start = end - timedelta(days=days)
    with connect(server.database_url, 5.0) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = urlsplit(server.database_url)._replace(path=f"/{name}").geturl()
        try:
            migrate(url)
            if days:
                with connect(url, 5.0) as db:
                    seed(db, start, end, end - timedelta(days=2))
            with grafana(owner, url, name) as reader:
                yield Shop(url, not server.embedded, start, end, reader)
        finally:
            drop_database(owner, name)
