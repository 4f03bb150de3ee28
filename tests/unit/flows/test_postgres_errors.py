"""What is shown of a database's error: the one line that says what is wrong, and where."""

from __future__ import annotations

import socket

import psycopg
import pytest

from database.connection import failure_of
from flows.connectors.postgres import reason, refused
from flows.domain.errors import PermanentError, TransientError

# as libpq 17 and psycopg 3.3 write them
REFUSED_WITH_A_QUESTION = (
    'connection failed: connection to server at "127.0.0.1", port 5432 failed: Connection refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections?"
)
SEVERAL_ADDRESSES = (
    'connection failed: connection to server at "127.0.0.1", port 5433 failed: FATAL:  database'
    ' "shop" does not exist\n'
    "Multiple connection attempts failed. All failures were:\n"
    "- host: '127.0.0.1', port: '5432', hostaddr: '127.0.0.1': connection failed: connection to"
    ' server at "127.0.0.1", port 5432 failed: Connection refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections?\n"
    "- host: '127.0.0.1', port: '5433', hostaddr: '127.0.0.1': connection failed: connection to"
    ' server at "127.0.0.1", port 5433 failed: FATAL:  database "shop" does not exist'
)
DATABASE_MISSING = (
    'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  database'
    ' "shop" does not exist'
)
PASSWORD_WRONG = (
    'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  password'
    ' authentication failed for user "shopstream"'
)
TABLE_MISSING = (
    'relation "ops.changes" does not exist\nLINE 1: SELECT source FROM ops.changes\n              ^'
)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            REFUSED_WITH_A_QUESTION,
            'connection failed: connection to server at "127.0.0.1", port 5432 failed: Connection'
            " refused",
        ),
        (SEVERAL_ADDRESSES, SEVERAL_ADDRESSES.splitlines()[-1]),
        (DATABASE_MISSING, DATABASE_MISSING),
        (PASSWORD_WRONG, PASSWORD_WRONG),
        (TABLE_MISSING, 'relation "ops.changes" does not exist'),
        ("", "OperationalError"),
    ],
    ids=["a question", "several addresses", "no database", "password", "no table", "nothing"],
)
def test_the_line_that_names_the_cause_is_shown(message: str, line: str) -> None:
    assert reason(psycopg.OperationalError(message)) == line


@pytest.mark.parametrize("message", [SEVERAL_ADDRESSES, DATABASE_MISSING, PASSWORD_WRONG])
def test_a_server_that_lets_nobody_in_is_no_server_that_is_away(message: str) -> None:
    assert refused(psycopg.OperationalError(message)) is not None
    assert refused(psycopg.OperationalError(REFUSED_WITH_A_QUESTION)) is None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_refused_connection_names_host_and_port() -> None:
    port = free_port()
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(f"postgresql://127.0.0.1:{port}/shop", connect_timeout=5)
    assert f'"127.0.0.1", port {port} failed: Connection refused' in reason(caught.value)


def test_of_several_addresses_the_last_is_named() -> None:
    first, second = free_port(), free_port()
    hosts = f"host=127.0.0.1,127.0.0.1 port={first},{second}"
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(f"{hosts} dbname=shop connect_timeout=5")
    assert f"port {second} failed: Connection refused" in reason(caught.value)


def test_a_command_fails_for_now_or_for_good() -> None:
    away = failure_of(psycopg.OperationalError(REFUSED_WITH_A_QUESTION))
    assert isinstance(away, TransientError)
    broken = failure_of(psycopg.errors.UndefinedTable(TABLE_MISSING))
    assert isinstance(broken, PermanentError)
    assert str(broken).startswith('database: relation "ops.changes" does not exist; run')
