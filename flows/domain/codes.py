"""The closed vocabulary of verdicts: every record of a raw topic ends in one outcome, and a refused
one bears a code.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
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
    COMPLETENESS = "completeness"
    VALIDITY = "validity"
    UNIQUENESS = "uniqueness"
    CONSISTENCY = "consistency"
    TIMELINESS = "timeliness"
    VOLUME = "volume"
