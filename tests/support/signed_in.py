"""A browser that is signed in: a proxy on loopback that adds a header to each request.

Chromium's command line takes no header, and Grafana asks for none before it shows its own login.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSED_ON = ("Content-Type", "Accept", "Cookie")
SECONDS = 30


@contextmanager
def signed_in(base: str, headers: Mapping[str, str]) -> Iterator[str]:
    """Serve `base` with the headers on every request; gives the address to open."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.pass_on(None)

        def do_POST(self) -> None:
            self.pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def pass_on(self, body: bytes | None) -> None:
            own = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
            request = urllib.request.Request(base + self.path, body, own | dict(headers))
            try:
                answer = urllib.request.urlopen(request, timeout=SECONDS)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                content = answer.read()
                self.send_response(answer.status or 500)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
