"""The four ways in which a flow can stop that are not bugs, and the exit code of each.

ShopstreamError ├── ConfigError             2   a setting is wrong; nothing was connected yet ├──
PermanentError          3   the world does not fit the contract; a restart would not help │   └──
RejectBudgetExceeded    nearly everything is refused: better lag than an emptied topic └──
TransientError          4   broker or database stayed away; the supervisor restarts, the flow
resumes
"""

from __future__ import annotations


class ShopstreamError(Exception):
    exit_code = 1


class ConfigError(ShopstreamError):
    exit_code = 2


class PermanentError(ShopstreamError):
    exit_code = 3


class RejectBudgetExceeded(PermanentError):
    pass


class TransientError(ShopstreamError):
    exit_code = 4
