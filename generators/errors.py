"""What ends a run, by exit code.

GeneratorError
 |- ConfigError        2  a wrong option, setting or input file
 |- LedgerError        3  the answer key contradicts itself: a bug here, never the pipeline's fault
 +- UnreachableError   4  a broker or registry that is away, or a record that was not delivered
"""

from __future__ import annotations


class GeneratorError(Exception):
    """End the run with one line."""

    exit_code = 1


class ConfigError(GeneratorError):
    """Something the caller can put right before anything was sent."""

    exit_code = 2


class LedgerError(GeneratorError):
    """The ledger disagrees with itself."""

    exit_code = 3


class UnreachableError(GeneratorError):
    """The world outside did not do its part."""

    exit_code = 4
