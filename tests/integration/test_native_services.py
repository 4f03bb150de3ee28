"""The services of `make services`: which processes and data are theirs, what their role may do."""

from __future__ import annotations

import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from deploy.native import kafka, postgres, prometheus
from deploy.native.checkout import Checkout, Identity
from deploy.native.errors import ServicesError
from deploy.native.processes import Server

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before it runs, the kernel may not know its command line yet
        yield process
        process.kill()


def server(folder: Path, mark: str) -> Server:
    return Server("Sleeper", folder / "pid", mark, folder / "log")


def test_a_pid_that_another_program_got_ends_nothing(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "pid").write_text(f"{stranger.pid}\n")
    assert not server(tmp_path, "--mark-of-ours").stop(signal.SIGTERM)
    assert stranger.poll() is None


def test_our_own_process_is_recognised_and_ended(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "pid").write_text(f"{stranger.pid}\n")
    assert server(tmp_path, SLEEP[-1]).stop(signal.SIGTERM)
    assert stranger.wait(5) == -signal.SIGTERM


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    failing = server(tmp_path, "--mark-of-ours")
    with failing.spawn([sys.executable, "-c", "raise SystemExit('no such disk')"]) as process:

        def answers() -> None:
            raise ConnectionError

        with pytest.raises(ServicesError, match="no such disk"):
            failing.wait_until(answers, process, seconds=10)


def test_ports_and_passwords_are_chosen_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.prepare()
    first = checkout.choose_identity()
    checkout.prepare()
    assert checkout.choose_identity() == first


def test_a_copied_checkout_gets_services_of_its_own(tmp_path: Path) -> None:
    original, copy = Checkout(tmp_path / "original"), Checkout(tmp_path / "copy")
    original.prepare()
    first = original.choose_identity()
    shutil.copytree(original.root, copy.root)
    copy.prepare()
    second = copy.choose_identity()
    assert (first.password, first.checkout) != (second.password, second.checkout)
    assert original.choose_identity() == first


def test_what_holds_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.prepare()
    checkout.choose_identity()
    assert {
        path.stat().st_mode & 0o077 for path in (checkout.folder, *checkout.folder.iterdir())
    } == {0}


@pytest.fixture
def running() -> Identity:
    checkout = Checkout()
    identity = checkout.identity()
    if identity is None or not checkout.exports_file.exists():
        pytest.skip("needs the real services of this checkout: make services")
    return identity


@pytest.mark.services
def test_the_role_makes_databases_that_have_hypertables(running: Identity) -> None:
    name = sql.Identifier(f"native_{uuid4().hex}")
    server = (
        f"host=127.0.0.1 port={running.postgres_port} user=shopstream password={running.password}"
    )
    with psycopg.connect(f"{server} dbname=shopstream", autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            with psycopg.connect(
                f"{server} dbname={name.as_string(None).strip(chr(34))}", autocommit=True
            ) as fresh:
                fresh.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
                fresh.execute(
                    "CREATE TABLE minutes (window_start timestamptz PRIMARY KEY, orders bigint)"
                )
                fresh.execute("SELECT create_hypertable('minutes', 'window_start')")
                fresh.execute("INSERT INTO minutes VALUES ('2026-01-01', 1), ('2026-03-01', 2)")
                chunks = fresh.execute(
                    "SELECT count(*) FROM timescaledb_information.chunks"
                ).fetchone()
        finally:
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
    assert chunks == (2,)


@pytest.mark.services
def test_both_answer_at_the_exported_addresses(running: Identity) -> None:
    kafka.answers(running)
    postgres.answers(running)


def nothing_installed(monkeypatch: pytest.MonkeyPatch, cache: Path, *programs: str) -> None:
    """A machine that has only these programs, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: which(name) if name in programs else None)


def test_without_apt_prometheus_is_asked_for_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_installed(monkeypatch, tmp_path)
    assert prometheus.programs() is None
    with pytest.raises(ServicesError, match="install the package prometheus"):
        prometheus.install(tmp_path / "log")


def test_prometheus_that_cannot_be_fetched_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_installed(monkeypatch, tmp_path, "apt-get", "dpkg-deb")
    monkeypatch.setattr(prometheus, "PACKAGE", "no-such-package-of-debian")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null";'
    )
    with pytest.raises(ServicesError, match="apt cannot fetch Prometheus"):
        prometheus.install(tmp_path / "log")
    assert prometheus.programs() is None


def test_prometheus_in_the_cache_is_found_and_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_installed(monkeypatch, tmp_path)
    folder = tmp_path / "shopstream" / f"prometheus-{platform.machine()}" / "usr" / "bin"
    folder.mkdir(parents=True)
    (folder / "prometheus").touch()
    assert prometheus.install(tmp_path / "log") == folder
