"""What tests share: the services, once per session, and a stack of its own for each test."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from deploy.native import prometheus
from shopstream.demo.dev_services import Services, embedded, native
from tests.support import time_of_day
from tests.support.databases import Database, migrated_once, new_database
from tests.support.stack import Stack, open_stack

LOG_CHARACTERS = 4_000
INTEGRATION = Path(__file__).parent / "integration"

# no test is timed: an example may compile a kernel first
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_report_header() -> list[str]:
    """Show what a run depends on besides the code."""
    services = "real ones of `make services`" if native() else "embedded (make services: real ones)"
    end = time_of_day.seeded_end()
    return [
        f"services: {services}",
        f"seeded data end at {end:%Y-%m-%d %H:%M} UTC ({time_of_day.VARIABLE}={end.hour})",
    ]


@pytest.fixture(scope="session")
def embedded_services() -> Iterator[Services]:
    """A broker and plain PostgreSQL of this session."""
    # not below pytest's own folder: another pytest closes that to everybody else, and so to the
    # user that PostgreSQL runs as where this one is root
    with (
        TemporaryDirectory(prefix="shopstream-tests-", ignore_cleanup_errors=True) as folder,
        embedded(Path(folder)) as started,
        migrated_once(started),
    ):
        yield started


@pytest.fixture(scope="session")
def native_services() -> Iterator[Services | None]:
    """The services of `make services`, when they are up."""
    running = native()
    if running is None:
        yield None
        return
    with migrated_once(running):
        yield running


@pytest.fixture(scope="session")
def services(native_services: Services | None, request: pytest.FixtureRequest) -> Services:
    """The real services when they are up, else embedded ones."""
    if native_services is not None:
        return native_services
    started: Services = request.getfixturevalue("embedded_services")
    return started


@pytest.fixture(scope="session", params=["plain", "timescale"])
def server(request: pytest.FixtureRequest, native_services: Services | None) -> Services:
    """Both kinds of database server, the second where `make services` are up."""
    if request.param == "plain":
        started: Services = request.getfixturevalue("embedded_services")
        return started
    if native_services is None:
        pytest.skip("needs the real TimescaleDB: make services")
    return native_services


@pytest.fixture
def database(server: Services) -> Iterator[Database]:
    """A migrated database of this test alone, without topics or flows."""
    with new_database(server) as copied:
        yield copied


@pytest.fixture(scope="session")
def prometheus_programs() -> Path:
    """The folder of prometheus and promtool."""
    folder = prometheus.programs()
    if folder is None:
        pytest.skip("needs Prometheus: make services, or Debian's package `prometheus`")
    return folder


@pytest.fixture(autouse=True)
def _real_services_or_skip(request: pytest.FixtureRequest) -> None:
    marked = request.node.get_closest_marker("services") and "services" in request.fixturenames
    if marked and request.getfixturevalue("services").embedded:
        pytest.skip("needs the real Kafka and TimescaleDB: make services")


@pytest.fixture
def stack(services: Services, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Topics, consumer groups and a migrated database of this test alone."""
    with open_stack(services, tmp_path) as opened:
        if request.path.is_relative_to(INTEGRATION):
            # So the references of the kernels run on real services, too; and what these tests ask
            # has nothing to do with kernels, which add 0.6 s to the start of a flow.
            opened.environment["SHOPSTREAM_KERNELS"] = "off"
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure the logs of the processes of its stack."""
    report = yield
    opened = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(opened, Stack):
        report.sections += [
            (f"log of {log.stem}", log.read_text()[-LOG_CHARACTERS:])
            for log in sorted(opened.folder.glob("*.log"))
        ]
    return report
