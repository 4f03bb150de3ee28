"""Login roles for the flows and for Grafana: made or brought up to date by whoever migrates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from database.connection import connect
from flows.connectors.postgres import reason
from flows.domain.errors import ConfigError, PermanentError
from flows.runtime.settings import read_secret

GROUPS = {"reader": "shopstream_reader", "writer": "shopstream_writer"}
# Grafana's pool has 10 connections (its data source says so). A reader that opens more than these
# is out of control, and the flows need the rest of the server's 100.
READER_CONNECTIONS = 15
UNLIMITED = -1


@dataclass(frozen=True)
class Login:
    """A role that may log in, as a member of a group."""

    name: str
    group: str
    password: str

    @classmethod
    def parse(cls, text: str) -> Login:
        """Read NAME=GROUP:FILE.

        Errors: ConfigError.
        """
        name, _, membership = text.partition("=")
        group, _, file = membership.partition(":")
        if not name or group not in GROUPS or not file:
            raise ConfigError(f"--login {text}: must be NAME={{{','.join(GROUPS)}}}:FILE")
        return cls(name, GROUPS[group], read_secret(f"--login {name}", Path(file)))


def ensure(url: str, logins: list[Login], patience_seconds: float = 30.0) -> None:
    """Make each login a member of its group, with its password.

    Errors: PermanentError when the role may not.
    """
    with connect(url, patience_seconds) as db:
        for login in logins:
            if login.name == db.info.user or login.name in GROUPS.values():
                raise PermanentError(
                    f"login {login.name}: is the role that migrates, or a group; take a name of"
                    " its own"
                )
            try:
                with db.transaction():
                    create_login(db, login)
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
                raise PermanentError(f"login {login.name}: {reason(error)}") from error


def create_login(db: psycopg.Connection, login: Login) -> None:
    """Create a login role, or bring its password, limits and membership up to date."""
    name, group = sql.Identifier(login.name), sql.Identifier(login.group)
    if db.execute("SELECT FROM pg_roles WHERE rolname = %s", (login.name,)).fetchone() is None:
        db.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    # hashed here: the server's log and pg_stat_statements never see the password
    secret = db.pgconn.encrypt_password(
        login.password.encode(), login.name.encode(), b"scram-sha-256"
    ).decode()
    limit = READER_CONNECTIONS if login.group == GROUPS["reader"] else UNLIMITED
    db.execute(
        sql.SQL("ALTER ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(
            name, limit, sql.Literal(secret)
        )
    )
    db.execute(sql.SQL("GRANT {} TO {}").format(group, name))
    # A member inherits the rights of its group, but not its settings: without these a reader would
    # have no statement timeout.
    for setting, value in _settings_of(db, login.group).items():
        db.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                name, sql.Identifier(setting), sql.Literal(value)
            )
        )


def _settings_of(db: psycopg.Connection, role: str) -> dict[str, str]:
    rows = db.execute(
        "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = %s::regrole AND"
        " setdatabase = 0",
        (role,),
    ).fetchall()
    return dict(row[0].split("=", 1) for row in rows)
