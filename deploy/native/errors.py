"""The error that ends a command of this package with one sentence instead of a traceback."""

from __future__ import annotations

from flows.domain.errors import ShopstreamError


class ServicesError(ShopstreamError):
    """Say in one sentence why the services cannot run, and what would help."""
