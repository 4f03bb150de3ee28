"""What the documentation names exists: tests, links, files, commands, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name
from shopstream.__main__ import COMMANDS, parser_for

# the change log names what is gone, too
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")}
    - {ROOT / "CHANGELOG.md"}
)
FOLDERS = (
    "avro|bench|database|deploy|docs|flows|generators|grafana|prometheus|shopstream|tests|tools"
)
# settings of docker-compose.yml and of Grafana's provisioning, which the flows do not read
ELSEWHERE = ("docker-compose.yml", "grafana/alerts/notifying.py")

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(page: Path, kind: str) -> list[str]:
    texts = re.findall(rf"^ *```{kind}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [dedent(block) for block in texts]


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command in the page's shell blocks, without comments."""
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def made_by(page: Path) -> set[str]:
    """The files that a page tells its reader to write, named on the fences of their blocks."""
    return set(re.findall(r"^ *```(?!diff)\w+ (\S+)$", page.read_text(), re.MULTILINE))


def prose(page: Path) -> str:
    return re.sub(r"^ *```[^\n]*\n.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@cache
def defined_tests() -> set[str]:
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)}


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named - defined_tests() == set()


def test_every_relative_link_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_every_path_of_the_repository_exists(page: Path) -> None:
    """A path that ends in a placeholder (`avro/history/<name>`) counts up to its folder."""
    text = re.sub(r"\[[^\]]*\]\([^)]*\)", "", page.read_text())
    for match in re.finditer(rf"(?<![\w./@-])(?:{FOLDERS})/[\w./-]*", text):
        path = match[0].rstrip(".")
        if text[match.end() : match.end() + 1] in ("<", "*", "…", "{"):
            path = path.rpartition("/")[0]
        assert (ROOT / path).exists() or path in made_by(page), match[0]


def test_every_make_target_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    in_prose = re.findall(r"`make ([a-z-]+)", prose(page))
    in_shell = [
        word
        for words in shell_lines(page)
        if words[0] == "make"
        for word in words[1:]
        if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)
    ]
    assert {*in_prose, *in_shell} - targets == set()


def test_every_command_exists_and_takes_its_options(page: Path) -> None:
    for name in re.findall(r"`(?:python -m )?shopstream ([a-z-]+)", prose(page)):
        assert name in COMMANDS, f"shopstream {name}"
    for words in shell_lines(page):
        if "-m" in words[:2] and words[2] == "shopstream":
            check_command(words[3:])
        elif Path(words[0]).name == "shopstream":
            check_command(words[1:])


def check_command(words: list[str]) -> None:
    if words != ["--help"]:
        parser_for(words).parse_args(words)


def test_every_module_that_is_run_exists(page: Path) -> None:
    for name in re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", page.read_text()):
        path = ROOT.joinpath(*name.split("."))
        ours = (ROOT / name.partition(".")[0]).is_dir()
        assert not ours or path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_every_setting_exists(page: Path) -> None:
    known = {environment_name(name) for name in FIELDS}
    for path in made_by(page):
        if family := re.fullmatch(r"avro/(\w+)_event\.avsc", path):
            known |= {f"SHOPSTREAM_TOPIC_{stage}_{family[1].upper()}" for stage in ("RAW", "CLEAN")}
    others = "".join((ROOT / path).read_text() for path in ELSEWHERE)
    for name in re.findall(r"\bSHOPSTREAM_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()):
        assert name in known or name in others, name
