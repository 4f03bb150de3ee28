"""The four ways in which a flow can stop that are not bugs, and the exit code of each.

::

    ShopstreamError
    ├── ConfigError               2  a setting is wrong; nothing was connected yet
    ├── PermanentError            3  the world breaks the contract; a restart would not help
    │   └── RejectBudgetExceeded  3  nearly every record is refused: better lag than an empty topic
    └── TransientError            4  broker or database stayed away; a supervisor restarts
"""

from __future__ import annotations


class ShopstreamError(Exception):
    """A failure that was foreseen: its message is for the operator, and needs no trace."""

    exit_code = 1


class ConfigError(ShopstreamError):
    """A setting is wrong."""

    exit_code = 2


class PermanentError(ShopstreamError):
    """The world breaks the contract, and a restart would not help."""

    exit_code = 3


class RejectBudgetExceeded(PermanentError):
    """Nearly every record of a run was refused."""


class TransientError(ShopstreamError):
    """A broker or a database stayed away for longer than we wait."""

    exit_code = 4
