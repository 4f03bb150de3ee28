"""The closed vocabulary of verdicts.

Every record of a raw topic ends in one outcome, and a refused record bears a code.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a record."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"


class Code(StrEnum):
    """Why a record was refused. LATE belongs to the outcome `late`, all others to `rejected`."""

    EMPTY = "EMPTY"
    TOO_LARGE = "TOO_LARGE"
    BAD_MAGIC = "BAD_MAGIC"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    TRUNCATED = "TRUNCATED"
    TRAILING_BYTES = "TRAILING_BYTES"
    BAD_UTF8 = "BAD_UTF8"
    NOT_AVRO = "NOT_AVRO"
    INVALID = "INVALID"
    FUTURE_TIME = "FUTURE_TIME"
    LATE = "LATE"
    ID_CONFLICT = "ID_CONFLICT"


class QualityDimension(StrEnum):
    """The property of good data that a rule asks for."""

    COMPLETENESS = "completeness"
    VALIDITY = "validity"
    UNIQUENESS = "uniqueness"
    CONSISTENCY = "consistency"
    TIMELINESS = "timeliness"
    VOLUME = "volume"


# A verdict is stored as its index in this tuple: one int8 per record, which numpy can count.
# Topics and tables hold the names, so an index means nothing outside of a process.
VERDICTS: tuple[tuple[Outcome, str], ...] = (
    (Outcome.ACCEPTED, ""),
    (Outcome.DUPLICATE, ""),
    (Outcome.LATE, Code.LATE),
    *((Outcome.REJECTED, code) for code in Code if code is not Code.LATE),
)
VERDICT_INDEX = {verdict: index for index, verdict in enumerate(VERDICTS)}
ACCEPTED, DUPLICATE, LATE = range(3)
INVALID, FUTURE, CONFLICT = (
    VERDICT_INDEX[Outcome.REJECTED, code]
    for code in (Code.INVALID, Code.FUTURE_TIME, Code.ID_CONFLICT)
)
