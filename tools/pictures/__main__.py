"""`python -m tools.pictures`: draw each board to a PNG, by Grafana's own components in Chromium.

Needs Node.js with npm (`sh tools/pictures/install.sh`, once) and Chromium. What Grafana's packages
do not have, pies, heat maps and lists of alerts, is said in words.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from flows.runtime.paths import ROOT, WORK
from grafana.boards import BY_UID
from grafana.dashboard import Board
from grafana.macros import Surroundings
from tools.panels.frames import Datasources, choose, frames, rendered

MODULES = WORK / "tools" / "pictures" / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOWN_HOURS = {"now-1h": 1, "now-6h": 6, "now-24h": 24, "now/d": 14}
WIDTH, ROW = 1600, 38
PATIENCE_SECONDS, DRAWING_MS = 120, 20_000
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="draw.css"><style>
body {{ background: #111217; margin: 0; font-family: Inter, sans-serif }}
#board {{ position: relative }}
</style><div id="board"></div><script>
window.process = {{ env: {{ NODE_ENV: 'production' }} }}; window.board = {board};
</script><script src="draw.js"></script>"""


def missing() -> str | None:
    """Say what the machine lacks to draw, if anything."""
    if shutil.which("node") is None:
        return "no Node.js"
    if not MODULES.exists():
        return "Grafana's components are not here: sh tools/pictures/install.sh"
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser: install {BROWSERS[0]}"
    return None


def bundle(folder: Path) -> None:
    """Bundle what draws, with Grafana's packages, into `draw.js` of a folder."""
    subprocess.run(
        [
            *(str(MODULES / "esbuild" / "bin" / "esbuild"), str(ROOT / "tools/pictures/draw.jsx")),
            *("--bundle", "--platform=browser", "--jsx=automatic", "--loader:.svg=dataurl"),
            *("--loader:.ttf=empty", "--external:node:*"),
            *("--define:process.env.NODE_ENV='production'", "--log-level=error"),
            f"--outfile={folder / 'draw.js'}",
        ],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def draw(folder: Path, page: Mapping[str, Any], path: Path) -> None:
    """Draw the panels of a page into a PNG; `folder` has the bundle."""
    last = max(p["panel"]["gridPos"]["y"] + p["panel"]["gridPos"]["h"] for p in page["panels"])
    text = json.dumps(page).replace("</", "<\\/")
    (folder / "page.html").write_text(PAGE.format(board=text))
    photograph((folder / "page.html").as_uri(), last * ROW, folder / "profile", path)


def photograph(address: str, height: int, profile: Path, path: Path) -> None:
    """Open an address in a headless browser, and store what it shows after a while as a PNG."""
    browser = next(found for name in BROWSERS if (found := shutil.which(name)))
    subprocess.run(
        [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--force-device-scale-factor=1", f"--virtual-time-budget={DRAWING_MS}"),
            *(f"--user-data-dir={profile}", "--allow-file-access-from-files"),
            *(f"--window-size={WIDTH},{height}", f"--screenshot={path}", address),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


def page_of(
    board: Board, sources: Datasources, around: Surroundings, wanted: Mapping[str, str]
) -> dict[str, Any]:
    """Fetch the data of a board's panels."""
    chosen, by_title = choose(sources.database, board, around, wanted), rendered(board)
    return {
        "from": around.start.timestamp() * 1000,
        "to": around.end.timestamp() * 1000,
        "panels": [
            {"panel": by_title[panel.title], "frames": frames(sources, panel, chosen)}
            for panel in board.panels
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    args = _parser().parse_args(arguments)
    lacking = missing() if args.database else "name a database: --database or DATABASE_URL"
    if lacking:
        print(f"pictures: {lacking}", file=sys.stderr)
        return 2
    end = args.end or datetime.now(UTC)
    wanted = dict(pair.split("=", 1) for pair in args.set)
    with (
        TemporaryDirectory(prefix="shopstream-pictures-") as folder,
        psycopg.connect(args.database, autocommit=True, options="-c timezone=UTC") as db,
    ):
        bundle(Path(folder))
        for uid in args.board or BY_UID:
            board, path = BY_UID[uid], (args.to / f"{uid}.png").resolve()
            hours = args.hours or SHOWN_HOURS[board.since]
            around = Surroundings(end - timedelta(hours=hours), end)
            sources = Datasources(db, args.prometheus)
            draw(Path(folder), page_of(board, sources, around, wanted), path)
            print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    add = parser.add_argument
    add("--database", default=os.environ.get("DATABASE_URL"), metavar="URL", help="DATABASE_URL")
    add("--prometheus", metavar="URL", help="for panels of telemetry; without it they are empty")
    add("--board", choices=sorted(BY_UID), action="append", metavar="UID", help="only these")
    add("--hours", type=float, metavar="N", help="length of the range (the board's own)")
    add("--end", type=_aware, metavar="TIME", help="end of the range, UTC unless it says (now)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable's value")
    add("--to", type=Path, default=ROOT / "docs/pictures", metavar="DIR", help="docs/pictures")
    return parser


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
