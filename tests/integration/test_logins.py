"""Login roles that `migrate --login` makes: the flows' can write, Grafana's can only read, and
passwords follow their files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from database import roles as flows_logins
from flows.runtime.paths import ROOT
from tests.support.stack import Stack, wait_until
from tests.support.traffic import mixed


class Logins:
    """Two logins of this test alone, with their passwords in files."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.files = {group: folder / f"{group}.password" for group in ("reader", "writer")}
        self.names = {group: f"{stack.prefix}_{group}" for group in self.files}
        self.set_passwords("first")

    def set_passwords(self, word: str) -> None:
        for group, file in self.files.items():
            file.write_text(f"{word}-{group}\n")

    def migrate(self, *options: str) -> subprocess.CompletedProcess[str]:
        logins = [
            word
            for g, name in self.names.items()
            for word in ("--login", f"{name}={g}:{self.files[g]}")
        ]
        return subprocess.run(
            [sys.executable, "-m", "shopstream", "migrate", *(options or logins)],
            cwd=ROOT,
            text=True,
            capture_output=True,
            env=os.environ | self.stack.environment,
            timeout=60,
        )

    def url(self, group: str) -> str:
        parts = urlsplit(self.stack.database_url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{self.names[group]}@{host}").geturl()

    def connect(self, group: str, password: str) -> psycopg.Connection:
        return psycopg.connect(
            self.url(group), password=password, autocommit=True, connect_timeout=10
        )


@pytest.fixture
def logins(stack: Stack, tmp_path: Path) -> Iterator[Logins]:
    created = Logins(stack, tmp_path)
    yield created
    stack.terminate(*(p for p in stack.processes if p.poll() is None))
    for name in created.names.values():
        # a session's temporary tables go a moment after its end
        wait_until(f"{name} to be dropped", partial(dropped, stack, name))


def dropped(stack: Stack, name: str) -> bool:
    try:
        stack.execute(
            sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)).as_string(None)
        )
    except psycopg.errors.DependentObjectsStillExist:
        return False
    return True


def must_check_passwords(logins: Logins) -> None:
    """An embedded server trusts whoever comes."""
    try:
        logins.connect("reader", "certainly wrong").close()
    except psycopg.OperationalError:
        return
    pytest.skip("this server asks nobody for a password: make services")


def test_the_reader_reads_and_can_change_nothing(logins: Logins) -> None:
    assert logins.migrate().returncode == 0
    with logins.connect("reader", "first-reader") as db:
        assert db.execute("SELECT count(*) FROM gold.orders_1m").fetchone() == (0,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            db.execute("DELETE FROM quality.dead_letters")
        db.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("DELETE FROM quality.dead_letters")


def test_the_readers_limits_are_those_of_its_group(logins: Logins) -> None:
    """PostgreSQL passes rights on to members, but no settings: a login without its own could hold a
    query for hours."""
    logins.migrate()
    with logins.connect("reader", "first-reader") as db:
        assert db.execute("SHOW statement_timeout").fetchone() == ("5s",)
        assert db.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        assert db.execute(
            "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
        ).fetchone() == (15,)


def test_a_flow_runs_as_the_writer_with_its_password_from_a_file(logins: Logins) -> None:
    logins.migrate()
    stack = logins.stack
    settings = {
        "DATABASE_URL": logins.url("writer"),
        "DATABASE_PASSWORD_FILE": str(logins.files["writer"]),
    }
    for flow in ("clean", "metrics", "quality", "deadletters"):
        stack.start(flow, **settings)
    stack.produce(mixed(300))
    stack.drain()
    stack.verify()
    assert stack.query("SELECT count(*) > 0 FROM gold.traffic_1m") == [(True,)]


def test_the_writer_cannot_change_the_schema(logins: Logins) -> None:
    logins.migrate()
    with (
        logins.connect("writer", "first-writer") as db,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        db.execute("DROP VIEW gold.orders_1m")


def test_a_new_password_in_the_file_replaces_the_old_one(logins: Logins) -> None:
    logins.migrate()
    must_check_passwords(logins)
    logins.set_passwords("second")
    assert logins.migrate().returncode == 0
    logins.connect("reader", "second-reader").close()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        logins.connect("reader", "first-reader")


def test_the_server_never_sees_the_password(logins: Logins) -> None:
    seen: list[str] = []

    class Listening(psycopg.Connection):
        def execute(self, query, params=None, **kwargs):  # type: ignore[no-untyped-def]  # psycopg has overloads
            seen.append(query if isinstance(query, str) else query.as_string(self))
            return super().execute(query, params, **kwargs)

    login = flows_logins.Login(logins.names["reader"], "shopstream_reader", "do-not-tell")
    with Listening.connect(logins.stack.database_url, autocommit=True) as db:
        flows_logins.create_login(db, login)
    assert any("SCRAM-SHA-256$" in statement for statement in seen)
    assert not any("do-not-tell" in statement for statement in seen)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("x", "must be NAME="),
        ("x=owner:/etc/hostname", "must be NAME="),
        ("x=reader:/no/such/file", "--login x='/no/such/file': cannot be read"),
    ],
)
def test_a_wrong_login_is_told_before_anything_is_done(
    logins: Logins, option: str, says: str
) -> None:
    result = logins.migrate("--login", option)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert says in line


def test_the_migrating_role_itself_is_no_login_of_theirs(logins: Logins) -> None:
    owner = logins.stack.query("SELECT current_user")[0][0]
    result = logins.migrate("--login", f"{owner}=reader:{logins.files['reader']}")
    assert result.returncode == 3
    assert f"login {owner}" in result.stderr
