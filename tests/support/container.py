"""A container without an engine: the steps of deploy/Dockerfile, carried out below a folder.

This machine's /usr and its Python stand for the base image; everything else is what the Dockerfile
makes. What runs there has what docker-compose.yml gives it: a read-only root, /tmp in memory, user
10001, no capability, its own variables alone, and each secret mounted from its file. Linux and root
only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import Service
from tests.support.dockerfile import Stage, files_of, stages

# $1 the folder, $2 a file with one "source target" per line to mount, $3 ro or rw, then the command
ENTER = r"""
set -eu
root=$1 mounts=$2 mode=$3
shift 3
mount --bind "$root" "$root"
mount --rbind --make-rslave /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
if [ "${BASE#/usr}" = "$BASE" ]; then
    mount --bind "$BASE" "$root$BASE"
    mount -o remount,bind,ro "$root$BASE"
fi
mount --rbind --make-rslave /dev "$root/dev"
mount --rbind --make-rslave /proc "$root/proc"
while read -r source target; do
    mount --bind "$source" "$root$target"
    mount -o "remount,bind,$mode" "$root$target"
done <"$mounts"
if [ "$mode" = ro ]; then
    mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
    mount -o remount,bind,ro "$root"
fi
exec chroot "$root" "$@"
"""
BASE = Path(sys.base_prefix)
PYTHON = "/opt/base/bin/python"
PATH = "/opt/base/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("unshare", "chroot", "mount", "setpriv", "env")


def needed() -> None:
    """Skip where this cannot be done."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root, to mount")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount")


@dataclass
class Container:
    """A root folder, and what is run in it."""

    folder: Path
    working: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def prepare(self) -> None:
        """Make what the base image has: Debian's folders, and this machine's accounts."""
        for name in ("usr", "dev", "proc", "tmp", "opt", "root", "run/secrets", "var/tmp"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            if (Path("/") / name).is_symlink():
                (self.root / name).symlink_to(f"usr/{name}")
        shutil.copytree("/etc", self.root / "etc", symlinks=True, ignore_dangling_symlinks=True)
        (self.root / "tmp").chmod(0o1777)
        # the base image has Python as /usr/local/bin/python; here it is the one that runs this, at
        # its own place
        if not BASE.is_relative_to("/usr"):
            self.inside(str(BASE)).mkdir(parents=True)
        self.inside(PYTHON).parent.mkdir(parents=True)
        python = Path(sys._base_executable)  # type: ignore[attr-defined]  # not in typeshed
        self.inside(PYTHON).symlink_to(python.resolve())

    def build(self, stage: Stage, others: dict[str, Container]) -> None:
        """Carry out a stage. Errors: AssertionError with what a step said."""
        for step in stage.steps:
            if step.word == "ENV":
                self.environment |= {
                    k: v.replace("$PATH", PATH)
                    for k, v in (pair.split("=", 1) for pair in step.text.split())
                }
            elif step.word == "WORKDIR":
                self.working = step.text
                self.inside(step.text).mkdir(parents=True, exist_ok=True)
            elif step.word == "USER":
                self.user = step.text
            elif step.word == "ENTRYPOINT":
                self.entrypoint = step.words
            elif step.word == "COPY":
                self.copy(step.words, others)
            elif step.word == "RUN":
                result = self.run(["sh", "-c", step.text])
                assert result.returncode == 0, f"{step.text}\n{result.stdout}{result.stderr}"

    def copy(self, words: list[str], others: dict[str, Container]) -> None:
        if words[0].startswith("--from="):
            source, target = words[1:]
            other = others[words[0].removeprefix("--from=")]
            shutil.copytree(other.inside(source), self.inside(target), symlinks=True)
            return
        *sources, target = words
        for source in sources:
            for file in files_of(source):
                below = (
                    file.relative_to(ROOT / source) if (ROOT / source).is_dir() else Path(file.name)
                )
                to = self.inside(f"{self.working}/{target}") / below
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, to)
                to.chmod(0o600)  # as from a checkout that was made with a careful umask

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def command(
        self, words: list[str], mounts: dict[str, Path], mode: str, environment: dict[str, str]
    ) -> list[str]:
        listed = self.folder / f"mounts-{len(list(self.folder.glob('mounts-*')))}"
        for target in mounts:
            self.inside(target).touch()
        listed.write_text("".join(f"{source} {target}\n" for target, source in mounts.items()))
        uid, gid = self.user.split(":")
        drop = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if mode == "ro" else []
        who = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *drop, "--"]
        given = [f"{k}={v}" for k, v in environment.items()]
        return [
            "unshare",
            "--mount",
            "--propagation=private",
            "sh",
            "-c",
            ENTER,
            "enter",
            str(self.root),
            str(listed),
            mode,
            *who,
            "env",
            "-i",
            "-C",
            self.working,
            *given,
            *words,
        ]

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a step of the build, as root, in a writable root.

        pip has the settings and the cache that it has on this machine.
        """
        pip = {
            k: v
            for k, v in os.environ.items()
            if k.startswith("PIP_") or k in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        }
        cache = Path.home() / ".cache"
        cache.mkdir(exist_ok=True)
        (self.root / "root/.cache").mkdir(exist_ok=True)
        environment = {"PATH": PATH, "HOME": "/root"} | self.environment | pip
        environment.pop("PIP_NO_CACHE_DIR", None)  # an image has no use for the cache, a test has
        command = self.command(words, {}, "rw", environment)
        return subprocess.run(
            command,
            env=os.environ | {"BASE": str(BASE)},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def service(
        self, service: Service, secrets: Path, changes: dict[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        """Give the command line that runs a service of compose, and its environment."""
        variables = {"PATH": PATH, "HOME": "/tmp"} | self.environment
        variables |= {k: v for k, v in service.get("environment", {}).items() if v} | changes
        mounts = {f"/run/secrets/{name}": secrets / name for name in service.get("secrets", [])}
        words = [*service.get("entrypoint", self.entrypoint), *service["command"]]
        return self.command(words, mounts, "ro", variables), os.environ | {"BASE": str(BASE)}


def build(folder: Path) -> Container:
    """All stages of deploy/Dockerfile; the last one is the image."""
    built: dict[str, Container] = {}
    for number, stage in enumerate(stages()):
        container = Container(folder / f"stage-{number}")
        container.prepare()
        container.build(stage, built)
        built[stage.name] = container
    return container
