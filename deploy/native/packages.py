"""Debian packages, unpacked into the user's cache: takes apt, and no root."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

from deploy.native.checkout import cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import locked, run

# the user `_apt` does not read every folder
OPTIONS = ("-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1")


def unpacked(package: str, log: Path) -> Path:
    """Return the folder with a package's files, and those of packages it needs that are missing.

    The first checkout that needs them fetches them; apt checks their signatures.
    Errors: ServicesError where there is no apt, or it does not have the package.
    """
    folder = cache_folder() / f"{package}-{platform.machine()}"
    if folder.is_dir():
        return folder
    with locked(cache_folder() / f"{package}.lock"):
        if not folder.is_dir():
            _fetch(package, folder, log)
    return folder


def _fetch(package: str, folder: Path, log: Path) -> None:
    missing = f"apt cannot fetch the package {package}."
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServicesError(f"{package} is missing, and there is no apt to fetch it.")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    download, root = partial / "download", partial / "root"
    download.mkdir(parents=True)
    root.mkdir()
    try:
        names = [package, *_missing_with(package, OPTIONS)]
        _download(download, names, OPTIONS, missing, log)
    except ServicesError:
        # A machine that never fetched its package lists, or may not, gets lists of its own.
        (partial / "lists" / "partial").mkdir(parents=True)
        lists = f"Dir::State::lists={partial / 'lists'}"
        options = (*OPTIONS, "-o", lists, "-o", f"Dir::Cache={partial}")
        run(["apt-get", "-qq", *options, "update"], missing, log)
        names = [package, *_missing_with(package, options)]
        _download(download, names, options, missing, log)
    for file in sorted(download.glob("*.deb")):
        run(["dpkg-deb", "-x", str(file), str(root)], missing, log)
    root.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)


def _missing_with(package: str, options: tuple[str, ...]) -> set[str]:
    """Name the packages that this one needs and that are not installed."""
    words = ["apt-get", "-qq", *options, "--no-install-recommends", "--print-uris", "install"]
    listing = subprocess.run([*words, package], capture_output=True, text=True).stdout
    # one per line: 'address' name_version_architecture.deb size hash
    files = [line.split(" ")[1] for line in listing.splitlines() if line.startswith("'")]
    return {file.partition("_")[0] for file in files} - {package}


def _download(
    folder: Path, names: list[str], options: tuple[str, ...], failure: str, log: Path
) -> None:
    command = ["env", "-C", str(folder), "apt-get", "-qq", *options, "download", *names]
    run(command, failure, log)


def libraries(folder: Path) -> str:
    """Name the folders of an unpacked package's libraries, as LD_LIBRARY_PATH has them."""
    return ":".join(str(path) for path in (folder / "usr" / "lib").glob("*-linux-*"))
