"""A database that dies, is away, full, locked, crowded, read-only, or forgets."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from shopstream.drills import steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import Stage, expect, url_of

DISK_MEGABYTES = 300
BALLAST_BYTES = 1 << 20
SHORT_SECONDS = 4
LATER = 200
BACKUP_ATTEMPTS, BACKUP_PAUSE_SECONDS = 100, 0.05


def database(stage: Stage, private: PrivateServices, seed: int, away: int) -> dict[str, Any]:
    """Break the database in every way under load; then put an older copy in its place."""
    disk = _move_to_small_disk(stage, private)
    stage.start_all()
    breaks: dict[str, Callable[[], None]] = {
        "killed": lambda: _killed(private, 0),
        f"away for {away} s": lambda: _killed(private, away),
        "read-only": lambda: _read_only(stage, private),
        "a lock is held": lambda: _locked(stage),
        "no connection left": lambda: _crowded(private),
    }
    if disk is not None:
        breaks["disk full"] = lambda: _full(disk)
    options = ("--rate", "300", "--duration", str(away + 7 * len(breaks)), "--seed", str(seed))
    sending = stage.generate(*options)
    for name, break_it in breaks.items():
        steps.tend_for(stage, 2)
        print(f"  {name}", flush=True)
        break_it()
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 300)
    expect(sending.returncode == 0, "the generator failed: see generator.log")
    proof = stage.prove()
    print("  restored to an older state", flush=True)
    backup = _backup(stage, private)
    stage.produce(steps.views(seed + 1, LATER))
    stage.drain()
    forgotten = _restore(stage, private, backup)
    expect(forgotten == LATER, f"the copy has {forgotten} events less, not {LATER}")
    stage.produce(steps.views(seed + 2, LATER))
    proof += stage.prove(ledger=None)
    did: dict[str, Any] = {
        "steps": list(breaks),
        "restored": f"{forgotten} events forgotten",
        "restarts": {name: actor.restarts for name, actor in stage.actors.items()},
        "proof": proof,
    }
    if disk is None:
        did["skipped"] = {"disk full": "a small disk needs root and the right to mount"}
    return did


def _name(stage: Stage) -> str:
    return stage.services.database_url.rpartition("/")[2]


def _move_to_small_disk(stage: Stage, private: PrivateServices) -> Path | None:
    """Move the database to a disk of its own; gives where that is for us."""
    disk = private.mount_disk(DISK_MEGABYTES)
    if disk is None:
        return None
    move = f"ALTER DATABASE {_name(stage)} SET TABLESPACE small"
    _as_superuser(private, f"CREATE TABLESPACE small LOCATION '{disk}'", move)
    outside, _ = private.disk
    return outside


def _full(disk: Path) -> None:
    """Fill the disk to its last byte for a while."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(BALLAST_BYTES)) == BALLAST_BYTES:
                pass
            while True:
                file.write(bytes(512))
    except OSError as error:
        expect(error.errno == errno.ENOSPC, f"the disk cannot be filled: {error}")
        time.sleep(SHORT_SECONDS)
    finally:
        ballast.unlink()


def _killed(private: PrivateServices, away: int) -> None:
    private.kill_postgres()
    time.sleep(away)
    private.start_postgres()


def _as_superuser(private: PrivateServices, *statements: str, database: str = "postgres") -> None:
    url = url_of(private.superuser_url, database)
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def _end_connections(name: str) -> str:
    return (
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        " AND pid <> pg_backend_pid()"
    )


def _read_only(stage: Stage, private: PrivateServices) -> None:
    """Refuse every write for a while, as a standby does."""
    name = _name(stage)
    end = _end_connections(name)
    on = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    _as_superuser(private, on, end)
    time.sleep(SHORT_SECONDS)
    _as_superuser(private, f"ALTER DATABASE {name} RESET default_transaction_read_only", end)


def _locked(stage: Stage) -> None:
    with psycopg.connect(stage.services.database_url) as db:
        db.execute("LOCK TABLE ops.progress IN ACCESS EXCLUSIVE MODE")
        time.sleep(SHORT_SECONDS)


def _crowded(private: PrivateServices) -> None:
    """Take every connection that an ordinary role can have, and end those of the flows."""
    taken = []
    try:
        with psycopg.connect(private.superuser_url, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'shopstream'"
            )
            while True:
                taken.append(psycopg.connect(private.services.database_url))
    except psycopg.OperationalError:
        time.sleep(SHORT_SECONDS)
    finally:
        for connection in taken:
            connection.close()


def _backup(stage: Stage, private: PrivateServices) -> str:
    """Copy the database as it is."""
    name = _name(stage)
    end = _end_connections(name)
    for _ in range(BACKUP_ATTEMPTS):
        try:
            _as_superuser(
                private, end, f"CREATE DATABASE {name}_backup TEMPLATE {name} OWNER shopstream"
            )
            return f"{name}_backup"
        except psycopg.errors.ObjectInUse:
            time.sleep(BACKUP_PAUSE_SECONDS)
    raise RuntimeError("the database cannot be copied")


def _restore(stage: Stage, private: PrivateServices, backup: str) -> int:
    """Put the copy in the place of the database, while flows run.

    Gives how many events the copy has less.
    """
    name = _name(stage)
    events = "SELECT coalesce(sum(events), 0)::int FROM gold.traffic_1m"
    ((before,),) = stage.query(events)
    with psycopg.connect(url_of(private.superuser_url, backup)) as db:
        ((after,),) = db.execute(events.encode()).fetchall()
    with psycopg.connect(private.superuser_url) as db:
        db.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        db.commit()
        db.execute(_end_connections(name).encode())
        # in one transaction: a database that does not exist is a wrong setting, and final
        db.execute(f"ALTER DATABASE {name} RENAME TO {name}_lost".encode())
        db.execute(f"ALTER DATABASE {backup} RENAME TO {name}".encode())
    _as_superuser(private, f"DROP DATABASE {name}_lost WITH (FORCE)")
    return int(before - after)
