"""PostgreSQL 17 with TimescaleDB: the system's own, else one in a small Debian (root only)."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from deploy.native.checkout import Checkout, Identity
from deploy.native.debian import TIMESCALEDB, debian_root
from deploy.native.errors import ServicesError
from deploy.native.processes import Server, run

if TYPE_CHECKING:
    from psycopg import sql

HERE = Path(__file__).parent
START_SECONDS = 60
BINARIES = Path("/usr/lib/postgresql/17/bin")
# Where root's servers keep their data, inside the Debian: the account `postgres` reads neither
# root's home nor, from inside a chroot, a checkout; and a bind mount is refused in many containers.
DATA_OF_ROOT = Path("/var/lib/shopstream")


@dataclass(frozen=True)
class Account:
    """The user and group that the server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Home:
    """Where a server runs: its root folder, its data folder as seen from there, and its account."""

    root: Path
    data: Path
    account: Account | None

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return a command line that runs a program of PostgreSQL there, never as root."""
        target = [str(BINARIES / program), *arguments]
        if self.account is None:
            return target
        uid, gid = self.account.uid, self.account.gid
        if self.root == Path("/"):
            return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *target]
        return ["chroot", f"--userspec={uid}:{gid}", "--groups=", str(self.root), *target]

    def outside(self, path: Path) -> Path:
        """Where a path of that root is for this process."""
        return self.root / path.relative_to("/")

    def own(self, path: Path) -> None:
        """Give a file to the server's account."""
        if self.account is not None:
            os.chown(self.outside(path), self.account.uid, self.account.gid)


@dataclass(frozen=True)
class Postgres:
    """The database server of one checkout."""

    checkout: Checkout

    @property
    def _link(self) -> Path:
        # the data folder, or for root a link to it
        return self.checkout.folder / "postgres"

    @property
    def server(self) -> Server:
        """The server's process."""
        data = self._link.resolve()
        mark = data if os.geteuid() != 0 else DATA_OF_ROOT / self.checkout.name
        return Server(
            "PostgreSQL", data / "postmaster.pid", str(mark), self.checkout.folder / "postgres.log"
        )

    def install(self) -> Home:
        """Find or make PostgreSQL 17 with TimescaleDB, before anything is started."""
        system = (Path("/") / TIMESCALEDB).exists()
        if os.geteuid() != 0:
            if not system:
                raise ServicesError(
                    "PostgreSQL 17 with TimescaleDB is missing: install the packages postgresql-17"
                    " and postgresql-17-timescaledb (Debian 13 has both), or run this as root,"
                    " which needs neither."
                )
            return Home(Path("/"), self._link, None)
        root = Path("/") if system else debian_root(self.checkout.folder / "install.log")
        return Home(root, DATA_OF_ROOT / self.checkout.name, _account(root))

    def start(self, home: Home, identity: Identity) -> None:
        """Start the server, wait for it, and make the role and the database."""
        data = home.outside(home.data)
        if not (data / "shopstream.conf").exists() or (
            home.account is not None and not self._link.is_symlink()
        ):
            self._initialise(home, identity)
        settings = (HERE / "postgresql.conf").read_text()
        (data / "shopstream.conf").write_text(f"{settings}\nport = {identity.postgres_port}\n")
        home.own(home.data / "shopstream.conf")
        if self.server.pid() is None and _names_a_process(self.server.pid_file):
            # After a restart of the machine the old pid can be another program's, and PostgreSQL
            # would refuse to start.
            self.server.pid_file.unlink()
        process = self.server.spawn(home.command("postgres", "-D", str(home.data)))
        self.server.wait_until(lambda: superuser_answers(identity), process, START_SECONDS)
        set_up(identity)
        answers(identity)

    def stop(self) -> bool:
        """End the server; true if it ran."""
        return self.server.stop(signal.SIGINT)  # "fast": ends connections, then writes a checkpoint

    def clean(self) -> None:
        """Remove its data."""
        if self._link.is_symlink():
            data = self._link.resolve()
            if (
                data.name == self.checkout.name
            ):  # a copied checkout's link leads to the other's data
                shutil.rmtree(data, ignore_errors=True)
            self._link.unlink()
        else:
            shutil.rmtree(self._link, ignore_errors=True)

    def _initialise(self, home: Home, identity: Identity) -> None:
        """Make the data folder anew.

        One that is there is a deleted checkout's, or of a first start that failed.
        """
        data = home.outside(home.data)
        if home.account is not None:
            self._link.unlink(missing_ok=True)
            data.parent.mkdir(parents=True, exist_ok=True)
            data.parent.chmod(0o755)
            orphan = Server("PostgreSQL", data / "postmaster.pid", str(home.data), self.server.log)
            orphan.stop(signal.SIGINT)
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        home.own(home.data)
        secret = home.data.with_name(home.data.name + ".secret")
        home.outside(secret).touch(mode=0o600)
        home.outside(secret).write_text(identity.superuser_password)
        home.own(secret)
        access = ["--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256"]
        try:
            command = home.command(
                "initdb", f"--pgdata={home.data}", *access, "--encoding=UTF8", "--locale=C.UTF-8"
            )
            run(command, "PostgreSQL's data folder cannot be made.", self.server.log)
        finally:
            home.outside(secret).unlink()
        with (data / "postgresql.conf").open("a") as file:
            file.write("include 'shopstream.conf'\n")
        if home.account is not None:
            self._link.symlink_to(data)


def answers(identity: Identity) -> None:
    """Read with the exported address.

    Errors: whatever the driver raises while that is not possible.
    """
    _execute(identity, "shopstream", identity.password, "shopstream", "SELECT 1")


def set_up(identity: Identity) -> None:
    """Make the role and its database, where they are missing.

    TimescaleDB is there, and in every database that is made later.
    """
    from psycopg import sql

    def as_superuser(database: str, statement: LiteralString | sql.Composed) -> object:
        return _execute(identity, "postgres", identity.superuser_password, database, statement)

    # From template1 every new database copies the extension, which only a superuser may create.
    as_superuser("template1", "CREATE EXTENSION IF NOT EXISTS timescaledb")
    role, secret = sql.Identifier("shopstream"), sql.Literal(identity.password)
    if not as_superuser("postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'shopstream'"):
        as_superuser(
            "postgres",
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}").format(role, secret),
        )
    if not as_superuser("postgres", "SELECT 1 FROM pg_database WHERE datname = 'shopstream'"):
        as_superuser("postgres", "CREATE DATABASE shopstream OWNER shopstream")


def superuser_answers(identity: Identity) -> None:
    """Read as the superuser.

    Errors: whatever the driver raises while that is not possible.
    """
    _execute(identity, "postgres", identity.superuser_password, "postgres", "SELECT 1")


def _execute(
    identity: Identity,
    user: str,
    password: str,
    database: str,
    statement: LiteralString | sql.Composed,
) -> object:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1",
        port=identity.postgres_port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=3,
    ) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def _account(root: Path) -> Account:
    """Return the account `postgres` of that root; its numbers need not be this system's."""
    if root == Path("/"):
        entry = pwd.getpwnam("postgres")
        return Account(entry.pw_uid, entry.pw_gid)
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == "postgres":
            return Account(int(uid), int(gid))
    raise ServicesError(f"{root} has no account postgres: remove that folder and try again.")


def _names_a_process(pid_file: Path) -> bool:
    try:
        return Path(f"/proc/{int(pid_file.read_text().split(chr(10), 1)[0])}").exists()
    except (OSError, ValueError):
        return False
