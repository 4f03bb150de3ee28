"""Prometheus and promtool from Debian's package, in the user's cache: takes apt, and no root."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from deploy.native.checkout import ROOT, cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import locked, run

PACKAGE = "prometheus"
ADVICE = f"install the package {PACKAGE} (Debian and Ubuntu: apt-get install {PACKAGE})."
PORT = 9090


def programs() -> Path | None:
    """Find the folder with both programs: the system's, else the one in the cache."""
    system = shutil.which("prometheus")
    if system is not None and (Path(system).parent / "promtool").exists():
        return Path(system).parent
    cached = _cached() / "usr" / "bin"
    return cached if (cached / "prometheus").exists() else None


def install(log: Path) -> Path:
    """Find the programs, or fetch and unpack their package (20 MB, once).

    Errors: ServicesError where there is no apt for it.
    """
    if (folder := programs()) is not None:
        return folder
    with locked(cache_folder() / "prometheus.lock"):
        if (folder := programs()) is not None:
            return folder
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise ServicesError(f"Prometheus is missing, and there is no apt to fetch it: {ADVICE}")
        _fetch(log)
    folder = programs()
    if folder is None:
        raise ServicesError(f"the package {PACKAGE} holds no programs: {ADVICE}")
    return folder


def run_beside(flows: Path) -> int:
    """Run Prometheus in the foreground over the flows of this checkout."""
    data = flows / "prometheus"
    data.mkdir(parents=True, exist_ok=True)
    program = install(data / "install.log") / "prometheus"
    print(f"Prometheus: http://127.0.0.1:{PORT} (its data in {data})", file=sys.stderr)
    os.execv(
        program,
        [
            str(program),
            f"--config.file={ROOT / 'prometheus' / 'native.yml'}",
            f"--storage.tsdb.path={data / 'data'}",
            f"--web.listen-address=127.0.0.1:{PORT}",
            "--log.level=warn",
        ],
    )


def _cached() -> Path:
    return cache_folder() / f"prometheus-{platform.machine()}"


def _fetch(log: Path) -> None:
    print("services: fetching Prometheus into the cache folder (20 MB, once)", file=sys.stderr)
    partial = _cached().with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    download, root = partial / "download", partial / "root"
    download.mkdir(parents=True)
    missing = f"apt cannot fetch Prometheus: {ADVICE}"
    try:
        _download(download, log, ["-o", "APT::Sandbox::User="])
    except ServicesError:
        # A machine that never fetched its package lists, or may not, gets lists of its own.
        lists = partial / "lists"
        (lists / "partial").mkdir(parents=True)
        own = [
            "-o",
            f"Dir::State::lists={lists}",
            "-o",
            f"Dir::Cache={partial}",
            "-o",
            "APT::Sandbox::User=",
        ]
        run(["apt-get", "-qq", *own, "update"], missing, log)
        _download(download, log, own, missing)
    (package,) = download.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), str(root)], missing, log)
    root.rename(_cached())
    shutil.rmtree(partial, ignore_errors=True)


def _download(folder: Path, log: Path, options: list[str], failure: str = "") -> None:
    """Fetch the package into a folder; apt checks its signature."""
    run(["env", "-C", str(folder), "apt-get", "-qq", *options, "download", PACKAGE], failure, log)
