"""`python -m grafana render`: write the files that Grafana and Prometheus read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import unified_diff
from os.path import relpath
from pathlib import Path

from flows.runtime.paths import ROOT
from grafana import files

DIFF_LINES = 20  # enough to see what has changed; a board is 2,000 lines


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    commands = parser.add_subparsers(metavar="command", required=True)
    render = commands.add_parser("render", help="write the files from the code")
    render.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a file differs"
    )
    args = parser.parse_args(arguments)
    texts = files.render()
    changed = [path for path, text in texts.items() if _text(path) != text]
    orphans = files.orphans(texts)
    if args.check:
        for path in changed:
            print(f"{_name(path)}: differs")
            print(_difference(path, texts[path]))
        for path in orphans:
            print(f"{_name(path)}: nothing renders it")
        return 1 if changed or orphans else 0
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path])
        print(f"{_name(path)}: written")
    for path in orphans:
        path.unlink()
        print(f"{_name(path)}: removed")
    return 0


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _name(path: Path) -> str:
    return relpath(path, ROOT)


def _difference(path: Path, text: str) -> str:
    checked_in = (_text(path) or "").splitlines()
    lines = unified_diff(checked_in, text.splitlines(), "checked in", "rendered", lineterm="", n=1)
    return "\n".join(list(lines)[:DIFF_LINES])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
