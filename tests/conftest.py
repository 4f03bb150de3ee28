"""What tests share: the services, once a session, and a stack of its own for each test that asks
for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shopstream.demo.dev_services import Services, embedded, native
from tests.support.stack import Stack, open_stack


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The real services of `make services` when they are up, else embedded ones for this session."""
    if (found := native()) is not None:
        yield found
        return
    with embedded(tmp_path_factory.mktemp("services")) as started:
        yield started


@pytest.fixture(autouse=True)
def _real_services_or_skip(request: pytest.FixtureRequest) -> None:
    marked = request.node.get_closest_marker("services") and "services" in request.fixturenames
    if marked and request.getfixturevalue("services").embedded:
        pytest.skip("needs the real Kafka and TimescaleDB: make services")


@pytest.fixture
def stack(services: Services, tmp_path: Path) -> Iterator[Stack]:
    """Topics, consumer groups and a migrated database of this test alone."""
    with open_stack(services, tmp_path) as opened:
        yield opened


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure shows what the processes of its stack said."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    opened = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(opened, Stack):
        report.sections += [
            (f"log of {log.stem}", log.read_text()[-4000:])
            for log in sorted(opened.folder.glob("*.log"))
        ]
