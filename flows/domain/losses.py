"""Records that were gone before a flow had read them: told exactly, never skipped in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why records are gone."""

    DELETED = "deleted before it was read"
    CUT = "cut off the end of the log"
    HOLE = "missing on the clean topic"


@dataclass(frozen=True)
class Loss:
    """Records of a partition that no flow can read any more.

    Units: offsets `[start, end)` of the topic; of a hole, of the raw topic.
    `records` is how many records that were, exactly.
    """

    topic: str
    partition: int
    start: int
    end: int
    records: int
    cause: Cause
    incarnation: int = 0

    def __str__(self) -> str:
        return (
            f"{self.topic} partition {self.partition}: {self.records:,} records (offsets"
            f" {self.start} to {self.end - 1}), {self.cause}"
        )


def told(losses: Iterable[Loss]) -> str:
    """Put losses into one line."""
    return "; ".join(map(str, losses))
