"""What stops a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """A step that cannot be measured, or whose result is wrong: a fast wrong answer is worth
    nothing.
    """
