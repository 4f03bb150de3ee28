"""The one error that ends a command of this package with a sentence instead of a trace."""

from __future__ import annotations


class ServicesError(Exception):
    """Say in one sentence why the services cannot run, and what would help."""
