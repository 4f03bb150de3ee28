"""A migrated database of a test alone, without topics or flows: plain PostgreSQL, and TimescaleDB
where it is up."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from psycopg import sql

from database.connection import connect
from database.migrate import migrate
from shopstream.demo.dev_services import Services, drop_database, embedded, native
from tests.support.databases import Database


@pytest.fixture(scope="session", params=["plain", "timescale"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    """Both kinds of server, the second where `make services` are up."""
    if request.param == "plain":
        with embedded(tmp_path_factory.mktemp("plain")) as started:
            yield started
        return
    found = native()
    if found is None:
        pytest.skip("needs the real TimescaleDB: make services")
    yield found


@pytest.fixture
def database(server: Services) -> Iterator[Database]:
    """A database of this test alone; nothing of it stays."""
    name = f"t{uuid4().hex[:12]}"
    with connect(server.database_url, 5.0) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = urlsplit(server.database_url)._replace(path=f"/{name}").geturl()
        try:
            migrate(url)
            yield Database(url, not server.embedded)
        finally:
            drop_database(owner, name)
