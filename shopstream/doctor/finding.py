"""What a look has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do; without `todo` all is well."""

    what: str
    found: str
    todo: str = ""
