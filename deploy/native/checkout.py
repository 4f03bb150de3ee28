"""What belongs to one checkout: its folders, ports, passwords and the file of exports."""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import shutil
import socket
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Below the range from which Linux lends ports to outgoing connections (32768 and up),
# so that a remembered port is still free after a restart.
PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Identity:
    """Ports and passwords, chosen once and remembered."""

    checkout: str
    kafka_port: int
    controller_port: int
    postgres_port: int
    password: str
    superuser_password: str


@dataclass(frozen=True)
class Checkout:
    """The checkout whose services these are."""

    root: Path = ROOT

    @property
    def folder(self) -> Path:
        """Where its services keep what is theirs; its owner's alone."""
        return self.root / ".shopstream" / "services"

    @property
    def name(self) -> str:
        """Name this checkout's data where several checkouts share a folder."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    @property
    def exports_file(self) -> Path:
        """The file of `export` lines, there while the services are up."""
        return self.folder / "env"

    @property
    def _identity_file(self) -> Path:
        return self.folder / "identity.json"

    def prepare(self) -> None:
        """Make the folder.

        One that was copied along with another checkout is emptied: its ports and data are that
        checkout's.
        """
        identity = self.identity()
        if identity is not None and identity.checkout != str(self.root):
            print(
                "services: this checkout was copied or moved; it gets services of its own",
                file=sys.stderr,
            )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def identity(self) -> Identity | None:
        """Read what was chosen; None before the first start."""
        try:
            return Identity(**json.loads(self._identity_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def choose_identity(self) -> Identity:
        """Read what was chosen, or choose it."""
        chosen = self.identity()
        if chosen is not None:
            return chosen
        kafka, controller, postgres = random.sample(PORTS, 3)
        fresh = Identity(
            str(self.root),
            kafka,
            controller,
            postgres,
            secrets.token_hex(16),
            secrets.token_hex(16),
        )
        return self.remember(fresh)

    def with_free_ports(self, identity: Identity, *names: str) -> Identity:
        """Replace those of the named ports that another program has taken meanwhile."""
        for name in names:
            port = getattr(identity, name)
            while not _is_free(port):
                port = random.choice(PORTS)
            identity = replace(identity, **{name: port})
        return self.remember(identity)

    def remember(self, identity: Identity) -> Identity:
        """Write it down, for its owner alone."""
        write_private(self._identity_file, json.dumps(asdict(identity), indent=2) + "\n")
        return identity

    def exports(self, identity: Identity) -> str:
        """Name both services as the settings take them, one `export` per line."""
        return (
            f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{identity.kafka_port}\n"
            f"export DATABASE_URL=postgresql://shopstream:{identity.password}"
            f"@127.0.0.1:{identity.postgres_port}/shopstream\n"
        )


def cache_folder() -> Path:
    """Return the user's folder for what is only downloaded; every checkout shares it."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "shopstream"


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner reads it at any moment."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers bind: a port that only has closed connections lingering is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
