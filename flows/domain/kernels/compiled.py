"""Compile a function to machine code, once per machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
_NOT_KEPT: list[str] = []


def compiled(function: F) -> F:
    """Compile a function at its first call with new types; the code is kept beside the source.

    Where neither that folder nor the user's cache can be written, each process compiles anew.
    """
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # "no locator available": nowhere to keep the code
        _NOT_KEPT.append(function.__name__)
        return cast(F, njit(nogil=True)(function))


def is_kept() -> bool:
    """Say whether compiled code is kept for the next process."""
    return not _NOT_KEPT
