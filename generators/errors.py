"""What ends a run, as part of the project's tree of errors.

ShopstreamError
 |- ConfigError             2  a wrong option, setting or input file; nothing was sent yet
 |- PermanentError          3
 |   +- LedgerError            the answer key contradicts itself: a bug in the generator
 +- TransientError          4
     +- UnreachableError       broker or registry is away, or a record was not delivered

Only these classes come from flows/; the answer key shares no other code with it
(test_the_answer_key_shares_no_code).
"""

from __future__ import annotations

from flows.domain.errors import ConfigError, PermanentError, ShopstreamError, TransientError

__all__ = ["ConfigError", "LedgerError", "ShopstreamError", "UnreachableError"]


class LedgerError(PermanentError):
    """The ledger disagrees with itself."""


class UnreachableError(TransientError):
    """A service is away, or did not take what was sent."""
