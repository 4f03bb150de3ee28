"""What stops a measurement, with the exit code 1 of ShopstreamError: nothing restarts a bench."""

from __future__ import annotations

from flows.domain.errors import ShopstreamError


class BenchError(ShopstreamError):
    """A step cannot be measured, or its result is wrong: a fast wrong answer is worth nothing."""
