"""A small Debian in the user's cache, with PostgreSQL 17 and TimescaleDB (Apache edition)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.native.checkout import cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import find_program, locked, run

SUITE = "trixie"
PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
TIMESCALEDB = "usr/lib/postgresql/17/lib/timescaledb.so"


def debian_root(log: Path) -> Path:
    """Return the folder of that Debian.

    The first checkout that needs it makes it, which takes root and a minute.
    """
    root = cache_folder() / f"postgresql-17-{SUITE}"
    if root.is_dir():
        return root
    with locked(cache_folder() / "postgresql.lock"):
        if not root.is_dir():
            _bootstrap(root, log)
    return root


def _bootstrap(root: Path, log: Path) -> None:
    debootstrap = find_program("debootstrap", "debootstrap", log)
    mirror = _mirror()
    print(
        "services: installing PostgreSQL 17 with TimescaleDB into the cache folder (a minute,"
        " once)",
        file=sys.stderr,
    )
    partial = root.with_name("postgresql.partial")
    _remove(partial)
    # Unverified packages would be installed with a warning only.
    options = ["--variant=minbase", "--force-check-gpg", f"--include={','.join(PACKAGES)}"]
    failure = f"debootstrap cannot install {PACKAGES[1]}."
    run([debootstrap, *options, SUITE, str(partial), mirror], failure, log, **_proxies())
    if not (partial / TIMESCALEDB).exists():
        raise ServicesError(
            f"{mirror} has no TimescaleDB for {SUITE}: set DEBIAN_MIRROR to a Debian mirror."
        )
    # The server that the package made for itself, and the packages' files, are not used.
    shutil.rmtree(partial / "var/lib/postgresql/17", ignore_errors=True)
    shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
    _unmount_below(partial)
    partial.rename(root)


def _mirror() -> str:
    """Return the mirror that this machine's apt uses, as apt itself reads its sources."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    missing = (
        "PostgreSQL 17 with TimescaleDB is missing, and apt here names no Debian mirror to get it"
        " from: "
    )
    advice = "install postgresql-17 and TimescaleDB for it, or set DEBIAN_MIRROR."
    if shutil.which("apt-get") is None:
        raise ServicesError(missing + advice)
    filters = ["Created-By: Packages", "Component: main"]
    listing = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", *filters]
    output = subprocess.run(listing, capture_output=True, text=True).stdout
    for line in output.splitlines():
        release, _, address = line.partition(" ")
        # Security and update suites may live elsewhere; a Debian release's own name has no hyphen.
        if "-" not in release and address.rstrip("/").endswith("debian"):
            return address
    raise ServicesError(missing + advice)


def _proxies() -> dict[str, str]:
    """Return apt's proxies as debootstrap's downloader reads them."""
    options = ["http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"]
    output = subprocess.run(
        ["apt-config", "shell", *options], capture_output=True, text=True
    ).stdout
    pairs = (line.partition("=") for line in output.splitlines())
    return {
        name: value.strip("'") for name, _, value in pairs if value.strip("'") not in ("", "DIRECT")
    }


def _remove(root: Path) -> None:
    """Remove what a killed run left, but nothing that is still mounted in it."""
    if root.exists():
        _unmount_below(root)
        shutil.rmtree(root)


def _unmount_below(root: Path) -> None:
    """Take away the mounts below a folder.

    Errors: ServicesError for one that stays: removing files would reach into it.
    """
    for point in reversed(_mounts_below(root)):
        subprocess.run(["umount", "--lazy", point], capture_output=True)
    if remaining := _mounts_below(root):
        raise ServicesError(
            f"{remaining[0]} is mounted and cannot be unmounted: unmount it by hand."
        )


def _mounts_below(root: Path) -> list[str]:
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{root}/")]
