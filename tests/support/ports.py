"""Ports of this machine for servers that a test starts."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Find a port that nobody listens on now; another process may take it before its user does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
