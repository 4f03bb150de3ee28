"""deploy/Dockerfile, read as Docker reads it: as much of its language as that file needs."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from flows.runtime.paths import ROOT

FILE = ROOT / "deploy" / "Dockerfile"
KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}


@dataclass(frozen=True)
class Step:
    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of an exec form, or of a plain line."""
        listed: list[str] = (
            json.loads(self.text) if self.text.startswith("[") else self.text.split()
        )
        return listed


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, word: str) -> Step:
        return [step for step in self.steps if step.word == word][-1]

    @property
    def environment(self) -> dict[str, str]:
        return dict(
            pair.split("=", 1)
            for step in self.steps
            if step.word == "ENV"
            for pair in step.text.split()
        )


def stages() -> list[Stage]:
    lines = [
        line
        for line in FILE.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    read: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in joined.splitlines():
        word, _, text = line.partition(" ")
        assert word in KNOWN, line
        text = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], text)
        if word == "ARG":
            name, _, value = text.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, _, name = text.partition(" AS ")
            read.append(Stage(base, name))
        else:
            read[-1].steps.append(Step(word, text.strip()))
    return read


def sent(path: Path) -> bool:
    """Tell whether a file of the checkout is sent to a build.

    The last line of .dockerignore decides that fits it, or a folder of it.
    """
    relative = path.relative_to(ROOT)
    names = [str(part) for part in (relative, *relative.parents) if str(part) != "."]
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip()
        if not pattern or pattern.startswith("#"):
            continue
        deep = pattern.removeprefix("**/")
        fits = (
            any(fnmatch.fnmatch(part, deep) for part in relative.parts)
            if pattern.startswith("**/")
            else any(
                "/" not in n and fnmatch.fnmatch(n, pattern) if pattern == "*" else n == pattern
                for n in names
            )
        )
        if fits:
            kept = line.startswith("!")
    return kept


def files_of(source: str) -> list[Path]:
    """List the files that a COPY of our own checkout brings."""
    place = ROOT / source
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return [path for path in files if sent(path)]
