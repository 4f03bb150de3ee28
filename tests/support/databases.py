"""Databases of tests: each a copy of one that was migrated once per server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from database.connection import connect
from database.migrate import migrate
from shopstream.demo.dev_services import Services, drop_database

CONNECT_SECONDS = 5.0
COPY_SECONDS = 20.0


@dataclass(frozen=True)
class Database:
    """A migrated database of one test."""

    url: str
    timescale: bool

    def connect(self) -> psycopg.Connection[Any]:
        return connect(self.url, CONNECT_SECONDS)

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.connect() as db:
            return db.execute(statement, arguments).fetchall()

    def execute(self, statement: str, *arguments: Any) -> None:
        with self.connect() as db:
            db.execute(statement, arguments or None)


_templates: dict[str, str] = {}
"""URL of a server -> the name of its migrated database."""


@contextmanager
def migrated_once(server: Services) -> Iterator[Services]:
    """Keep a migrated database on the server that `new_database` copies.

    A copy takes 60 ms where CREATE DATABASE and `migrate` take 230 ms, and every test has one.
    """
    name = _unused_name()
    with connect(server.database_url, CONNECT_SECONDS) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            migrate(url_of(server, name))
            _templates[server.database_url] = name
            yield server
        finally:
            _templates.pop(server.database_url, None)
            drop_database(owner, name)


@contextmanager
def new_database(server: Services, name: str | None = None) -> Iterator[Database]:
    """Make a migrated database, and remove it at the end of the block."""
    name = name or _unused_name()
    with connect(server.database_url, CONNECT_SECONDS) as owner:
        _copy(owner, _templates[server.database_url], name)
        try:
            yield Database(url_of(server, name), not server.embedded)
        finally:
            drop_database(owner, name)


def _copy(owner: psycopg.Connection[Any], template: str, name: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    until = time.monotonic() + COPY_SECONDS
    while True:
        try:
            owner.execute(statement)
            return
        except psycopg.errors.ObjectInUse:
            # the session that migrated it, or an autovacuum worker, leaves in a moment
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def copy_of(owner: psycopg.Connection[Any], server: Services, url: str) -> str:
    """Copy a database; the caller drops it."""
    name = _unused_name()
    _copy(owner, url.rpartition("/")[2], name)
    return url_of(server, name)


def url_of(server: Services, name: str) -> str:
    """Give the URL of a database of the server."""
    return urlsplit(server.database_url)._replace(path=f"/{name}").geturl()


def _unused_name() -> str:
    return f"t{uuid4().hex[:12]}"


@contextmanager
def grafana_session(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Open a session of a new login in the group shopstream_reader.

    It has the limits that a login has to be given itself: PostgreSQL passes rights on to the
    members of a group, but no settings.
    """
    name = f"grafana_{uuid4().hex[:12]}"
    role = sql.Identifier(name)
    with database.connect() as owner:
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE shopstream_reader").format(
                role, sql.Literal(name)
            )
        )
        try:
            for setting in ("default_transaction_read_only = on", "statement_timeout = '5s'"):
                owner.execute(sql.SQL("ALTER ROLE {} SET " + setting).format(role))
            with psycopg.connect(
                make_conninfo(database.url, user=name, password=name), autocommit=True
            ) as reader:
                yield reader
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(role))
