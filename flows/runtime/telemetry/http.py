"""Serve /metrics and /healthz of one process, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from flows.domain.errors import TransientError
from flows.runtime.telemetry.health import Verdict

TEXT = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """An HTTP server that neither holds a process nor its port."""

    daemon_threads = True
    # a process that is started again at once finds its port, though closed connections linger on it
    allow_reuse_address = True


def serve(
    address: tuple[str, int], registry: CollectorRegistry, verdict: Callable[[], Verdict]
) -> Server:
    """Begin to serve.

    Errors: TransientError when the port is taken: a flow must not run unwatched, and the supervisor
    has another port for the next try.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "shopstream"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                health = verdict()
                self._answer(200 if health.healthy else 503, TEXT, f"{health.line}\n".encode())
            else:
                self._answer(404, TEXT, b"/metrics or /healthz\n")

        do_HEAD = do_GET

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Log no request: a line per scrape would bury the others."""

    try:
        server = Server(address, Handler)
    except OSError as error:
        raise TransientError(
            f"/metrics cannot be served at {address[0]}:{address[1]}: {error.strerror}"
        ) from error
    threading.Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
    return server
