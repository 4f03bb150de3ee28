"""A seeded shop and an empty one on both kinds of server, once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shopstream.demo.dev_services import Services, embedded, native
from tests.support.shop_database import Shop, shops

DAYS = 8


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


@pytest.fixture(scope="session")
def empty(server: Services) -> Iterator[Shop]:
    yield from shops(server, 0)


@pytest.fixture(scope="session")
def shop(server: Services) -> Iterator[Shop]:
    yield from shops(server, DAYS)
