"""Ask before something that cannot be taken back."""

from __future__ import annotations

import sys

from flows.domain.errors import ConfigError


def confirmed(question: str, yes: bool) -> bool:
    """Ask on a terminal; elsewhere `--yes` must have said it.

    Errors: ConfigError where nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
