"""toxiproxy, a TCP proxy that makes connections slow or half-open, built with the Go toolchain."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from deploy.native.checkout import cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import locked, run

VERSION = "v2.12.0"
MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server"


def install(log: Path) -> Path:
    """Find the program in the cache, or build it (a minute, once).

    Errors: ServicesError where Go is missing.
    """
    program = cache_folder() / f"toxiproxy-{VERSION}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise ServicesError("toxiproxy is missing, and there is no Go toolchain to build it.")
    with locked(cache_folder() / "toxiproxy.lock"):
        if program.exists():
            return program
        print(
            "services: building toxiproxy into the cache folder (a minute, once)", file=sys.stderr
        )
        partial = cache_folder() / "toxiproxy.partial"
        command = [go, "install", f"{MODULE}@{VERSION}"]
        run(command, "Go cannot build toxiproxy.", log, GOBIN=str(partial))
        (partial / "server").rename(program)
        shutil.rmtree(partial, ignore_errors=True)
    return program
