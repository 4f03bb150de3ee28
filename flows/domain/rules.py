"""What an event must fulfil to be trusted: a rule is data, and the rules that every family has.

An event rule reads the columns of the event and what is summed up over its items (Family). An item
rule reads the columns of one item, and breaks the event when any item breaks it. `validate.py`
checks them all over a whole batch at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from flows.domain.codes import QualityDimension

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)

ALWAYS = pl.lit(True)

UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule: `broken` is evaluated for the events (or items) for which `when` holds.

    Null counts as not broken. A costly `broken` may have a cheap `suspect`, which holds for at
    least the same events: then `broken` is evaluated only for those.
    """

    name: str
    dimension: QualityDimension
    field: str
    broken: pl.Expr
    when: pl.Expr = ALWAYS
    suspect: pl.Expr | None = None


def missing(field: str) -> pl.Expr:
    """Give the expression that holds where a text is null or empty."""
    return pl.col(field).is_null() | (pl.col(field) == "")


def too_long(field: str, characters: int, prefix: str = "") -> Rule:
    """Make the rule that a text is no longer than so many characters."""
    name, text = f"{field.upper()}_TOO_LONG", pl.col(field).str
    # a text's bytes are known without reading it, and are no fewer than its characters
    return Rule(
        name,
        QualityDimension.VALIDITY,
        prefix + field,
        text.len_chars() > characters,
        suspect=text.len_bytes() > characters,
    )


# For the events of every family: each has an `event_id` and an `event_time`.
EVENT_ID_MISSING = Rule(
    "EVENT_ID_MISSING", QualityDimension.COMPLETENESS, "event_id", missing("event_id")
)
EVENT_ID_NOT_UUID = Rule(
    "EVENT_ID_NOT_UUID",
    QualityDimension.VALIDITY,
    "event_id",
    (pl.col("event_id") != "") & ~pl.col("event_id").str.contains(UUID),
)
EVENT_TIME_TOO_OLD = Rule(
    "EVENT_TIME_TOO_OLD",
    QualityDimension.TIMELINESS,
    "event_time",
    pl.col("event_time") < OLDEST,
)
EVENT_TIME_FUTURE = Rule(
    "EVENT_TIME_FUTURE",
    QualityDimension.TIMELINESS,
    "event_time",
    pl.col("event_time") > pl.col("newest_allowed"),
)
ENVELOPE_RULES = (EVENT_ID_MISSING, EVENT_ID_NOT_UUID, EVENT_TIME_TOO_OLD, EVENT_TIME_FUTURE)

# NUL is looked for while decoding, where the memory of all texts can be searched at once.
TEXT_HAS_NUL = Rule("TEXT_HAS_NUL", QualityDimension.VALIDITY, "", pl.col("has_nul"))
# Judged outside the tables above, because they need more than one event: the bytes, the watermark,
# or the known ids. RECORD_MISSING is checked once per offset, and broken where Kafka had no record
# at it.
RECORD_MISSING = Rule("RECORD_MISSING", QualityDimension.COMPLETENESS, "", ALWAYS)
RECORD_UNREADABLE = Rule("RECORD_UNREADABLE", QualityDimension.VALIDITY, "", ALWAYS)
RECORD_TOO_LARGE = Rule("RECORD_TOO_LARGE", QualityDimension.VOLUME, "", ALWAYS)
EVENT_TIME_LATE = Rule("EVENT_TIME_LATE", QualityDimension.TIMELINESS, "event_time", ALWAYS)
EVENT_ID_CONFLICT = Rule("EVENT_ID_CONFLICT", QualityDimension.UNIQUENESS, "event_id", ALWAYS)
EVENT_ID_REPEATED = Rule("EVENT_ID_REPEATED", QualityDimension.UNIQUENESS, "event_id", ALWAYS)
JUDGED_RULES = (
    RECORD_MISSING,
    TEXT_HAS_NUL,
    RECORD_UNREADABLE,
    RECORD_TOO_LARGE,
    EVENT_TIME_LATE,
    EVENT_ID_CONFLICT,
    EVENT_ID_REPEATED,
)
