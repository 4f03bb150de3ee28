"""`python -m grafana`: render the provisioned files, or pictures of the boards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import unified_diff

from grafana import files
from grafana.names import PROVISIONING


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    commands = parser.add_subparsers(metavar="command", required=True)
    render = commands.add_parser("render", help="write grafana/provisioning/ from the code")
    render.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file differs")
    render.set_defaults(run=run_render)
    args = parser.parse_args(arguments)
    return int(args.run(args))


def run_render(args: argparse.Namespace) -> int:
    found = files.files()
    changed = [p for p, text in found.items() if not p.exists() or p.read_text() != text]
    orphans = files.orphans(found)
    for path in (*changed, *orphans):
        name = path.relative_to(PROVISIONING)
        print(f"{name}: {'nothing makes it' if path in orphans else 'differs' if args.check else 'written'}")
        if args.check and path in changed and path.exists():
            lines = unified_diff(
                path.read_text().splitlines(), found[path].splitlines(), "checked in", "rendered", lineterm="", n=1
            )
            print("\n".join(list(lines)[:20]))
    if args.check:
        return 1 if changed or orphans else 0
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found[path])
    for path in orphans:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
