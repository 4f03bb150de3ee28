"""Pictures: a board drawn by Grafana's own components in a real browser, and what the command says
that it lacks."""

from __future__ import annotations

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from grafana.boards.live import LIVE
from tests.support.signed_in import signed_in
from tools.panels.frames import rendered
from tools.pictures.__main__ import (
    BROWSERS,
    ROW,
    WIDTH,
    bundle,
    draw,
    main,
    missing,
    photograph,
)

MINUTE_MS = 60_000
NOON_MS = 1_780_488_000_000


def page(titles: list[str], frames: list[dict[str, Any]]) -> dict[str, Any]:
    panels = [{"panel": rendered(LIVE)[title], "frames": frames} for title in titles]
    return {"from": NOON_MS - 60 * MINUTE_MS, "to": NOON_MS, "panels": panels}


def frame(name: str, points: list[float]) -> dict[str, Any]:
    times = [NOON_MS - MINUTE_MS * n for n in range(len(points), 0, -1)]
    return {
        "refId": "A",
        "fields": [
            {"name": "time", "type": "time", "values": times},
            {"name": name, "type": "number", "values": points},
        ],
    }


def size_of(png: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height


@pytest.mark.skipif(missing() is not None, reason=f"no pictures here: {missing()}")
def test_what_a_panel_shows_is_in_the_picture(tmp_path: Path) -> None:
    bundle(tmp_path)
    pictures = []
    for n, points in enumerate(([], [1.0, 9.0, 4.0], [9.0, 1.0, 2.0])):
        path = tmp_path / f"{n}.png"
        draw(tmp_path, page(["Orders"], [frame("Orders", points)]), path)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3
    width, height = size_of(tmp_path / "0.png")
    place = rendered(LIVE)["Orders"]["gridPos"]
    assert (width, height) == (WIDTH, (place["y"] + place["h"]) * ROW)


def test_without_a_database_the_command_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main([]) == 2
    assert "--database or DATABASE_URL" in capsys.readouterr().err


@pytest.mark.skipif(not any(map(which, BROWSERS)), reason=f"no browser: install {BROWSERS[0]}")
def test_a_page_that_wants_a_login_is_photographed_with_one(tmp_path: Path) -> None:
    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen = b"in" if self.headers.get("Authorization") == "Bearer x" else b"<h1>login</h1>"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(seen)

        def log_message(self, *_: object) -> None:
            pass

    pages = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for n, login in enumerate(({}, {"Authorization": "Bearer x"}, {"Authorization": "no"})):
            with signed_in(f"http://127.0.0.1:{server.server_port}", login) as address:
                photograph(f"{address}/", 200, tmp_path / "profile", tmp_path / f"{n}.png")
            pages.append((tmp_path / f"{n}.png").read_bytes())
    finally:
        server.shutdown()
        server.server_close()
    assert pages[0] == pages[2] != pages[1]
