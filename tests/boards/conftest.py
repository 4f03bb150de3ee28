"""Seeded shops and empty ones on both kinds of server, made once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from shopstream.demo.dev_services import Services
from tests.support.shop_database import Shop, open_shop
from tests.support.time_of_day import seeded_end

DAYS = 8


@pytest.fixture(scope="session")
def shops(
    embedded_services: Services, native_services: Services | None
) -> Iterator[Callable[[str, int], Shop]]:
    """Open, when it is first asked for, the shop of so many days on a kind of server."""
    with ExitStack() as opened:

        @cache
        def shop_on(kind: str, days: int) -> Shop:
            server = embedded_services if kind == "plain" else native_services
            if server is None:
                pytest.skip("needs the real TimescaleDB: make services")
            return opened.enter_context(open_shop(server, seeded_end(), days))

        yield shop_on


@pytest.fixture(params=["plain", "timescale"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of server; a test with pairwise cases brings its own."""
    parameter: str = request.param
    return parameter


@pytest.fixture
def empty(shops: Callable[[str, int], Shop], kind: str) -> Shop:
    """A database without a row."""
    return shops(kind, 0)


@pytest.fixture
def shop(shops: Callable[[str, int], Shop], kind: str) -> Shop:
    """A database with days of a small shop."""
    return shops(kind, DAYS)
