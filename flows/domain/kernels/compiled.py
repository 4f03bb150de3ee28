"""Compile functions to machine code, once per machine, and not before they are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
_declared: dict[str, list[Kernel]] = {}
_not_kept: list[str] = []


class Kernel:
    """A function that is compiled with all others of its module at the first call.

    Not before: numba takes half a second and 50 MB, and most of our programs call no kernel.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function."""
        if self._compiled is None:
            module = sys.modules[self.function.__module__]
            # kernels call each other by the names of their module
            for kernel in _declared[module.__name__]:
                kernel._compiled = _compile(kernel.function)
                setattr(module, kernel.function.__name__, kernel._compiled)
        assert self._compiled is not None
        return self._compiled(*arguments)


def compiled(function: F) -> F:
    """Declare a function to be compiled; the code is kept beside the source.

    Where neither that folder nor the user's cache can be written, each process compiles anew.
    """
    kernel = Kernel(function)
    _declared.setdefault(function.__module__, []).append(kernel)
    return cast(F, kernel)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    from numba import njit

    try:
        return cast(Callable[..., Any], njit(cache=True, nogil=True)(function))
    except RuntimeError:  # "no locator available": nowhere to keep the code
        _not_kept.append(function.__name__)
        return cast(Callable[..., Any], njit(nogil=True)(function))


def is_kept() -> bool:
    """Say whether compiled code is kept for the next process."""
    return not _not_kept
