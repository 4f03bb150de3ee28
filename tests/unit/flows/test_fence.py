"""The fence: each accepted event once, and none left out without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from flows.domain.errors import PermanentError
from flows.domain.fence import USUAL_LEAP, Fence, Terms
from flows.domain.incarnation import MOST_PARTITIONS
from flows.domain.losses import Cause, Loss

FIRST, SECOND, STRANGE = 256, 512, 768
LANES = {0: 0, FIRST: 0, SECOND: 1}
TERMS = Terms("raw.web", LANES.get, flow="metrics-shops")


class Log:
    """One partition of a clean topic: (raw offset, number, incarnation) of each event."""

    def __init__(self, terms: Terms = TERMS, **note: int) -> None:
        self.fence = Fence(terms)
        self.fence.restore(0, note)

    def pass_on(
        self, *events: tuple[int, int], incarnation: int = FIRST, is_new: bool = True
    ) -> list[int]:
        """Give the raw offsets that pass."""
        offsets, numbers = ([e[i] for e in events] for i in (0, 1))
        self.passed = self.fence.passing(
            np.zeros(len(events), np.int32),
            frame(offsets, numbers, incarnation),
            np.full(len(events), is_new),
        )
        return [o for o, unseen in zip(offsets, self.passed.unseen, strict=True) if unseen]

    def foreign(self, *events: tuple[int, int], incarnation: int = FIRST) -> list[bool]:
        marked = self.fence.foreign(
            np.zeros(len(events), np.int32),
            frame([e[0] for e in events], [e[1] for e in events], incarnation),
        )
        return list(map(bool, marked))


def frame(offsets: list[int], numbers: list[int], incarnation: int) -> pl.DataFrame:
    time = pl.Series([1_700_000_000_000] * len(offsets), dtype=pl.Datetime("ms", "UTC"))
    return pl.DataFrame(
        {
            "source_offset": offsets,
            "accepted": numbers,
            "source_incarnation": [incarnation] * len(offsets),
            "event_time": time,
            "source_timestamp": time,
        },
        schema_overrides={"source_incarnation": pl.Int32},
    )


def test_repeats_do_not_pass() -> None:
    log = Log()
    assert log.pass_on((5, 1), (6, 2), (9, 3)) == [5, 6, 9]
    assert log.pass_on((6, 2), (9, 3), (12, 4)) == [12]
    assert log.fence.place(0) == (12, 4)


def test_what_a_restart_needs_is_in_the_note() -> None:
    log = Log()
    log.pass_on((5, 1), (6, 2))
    again = Log(TERMS, **log.fence.note(0))
    assert again.pass_on((6, 2), (7, 3)) == [7]


@pytest.mark.parametrize("together", [True, False])
def test_a_hole_stops_with_the_exact_number_and_the_command(together: bool) -> None:
    log = Log()
    events = [(5, 1), (6, 2), (20, 7)]
    if not together:
        log.pass_on(*events[:2])
        events = events[2:]
    with pytest.raises(PermanentError, match="accept-loss metrics-shops") as stopped:
        log.pass_on(*events)
    assert "partition 0: 4 records (offsets 7 to 19), missing on the clean topic" in str(
        stopped.value
    )
    assert log.fence.losses() == []


def test_who_goes_on_tells_the_hole() -> None:
    log = Log(replace(TERMS, goes_on=True))
    assert log.pass_on((5, 1), (20, 7), (21, 8)) == [5, 20, 21]
    assert log.fence.losses() == [Loss("raw.web", 0, 6, 20, 5, Cause.HOLE, FIRST)]
    assert log.fence.losses() == []


def test_consent_is_for_one_hole() -> None:
    log = Log(fence=5, last=1, source=FIRST, consent=1)
    assert log.pass_on((20, 7)) == [20]
    with pytest.raises(PermanentError):
        log.pass_on((30, 9))


def test_consent_without_a_hole_is_spent() -> None:
    log = Log(fence=5, last=1, source=FIRST, consent=1)
    log.pass_on((6, 2))
    with pytest.raises(PermanentError):
        log.pass_on((30, 9))


@pytest.mark.parametrize(("cause", "stops"), [(Cause.DELETED, False), (Cause.CUT, True)])
def test_deleted_records_explain_a_hole_and_cut_ones_do_not(cause: Cause, stops: bool) -> None:
    log = Log()
    log.pass_on((5, 1))
    log.fence.lose(Loss("clean.web", 0, 100, 140, 40, cause))
    if stops:
        with pytest.raises(PermanentError):
            log.pass_on((20, 7))
    else:
        assert log.pass_on((20, 7)) == [20]


def test_what_is_read_again_to_rebuild_the_state_has_no_holes() -> None:
    log = Log(fence=5, last=1, source=FIRST)
    assert log.pass_on((20, 7), is_new=False) == [20]


def test_a_number_that_comes_again_behind_the_fence_stops() -> None:
    log = Log()
    log.pass_on((5, 1), (6, 2))
    with pytest.raises(PermanentError, match="clean has lost its place"):
        log.pass_on((7, 2))


def test_another_incarnation_begins_its_own_lane() -> None:
    log = Log()
    log.pass_on((5, 1), (6, 2))
    assert log.pass_on((0, 1), (1, 2), incarnation=SECOND) == [0, 1]
    assert log.passed.switched == [0]
    assert list(log.passed.partition) == [MOST_PARTITIONS] * 2
    assert log.pass_on((7, 3)) == [], "the old one is over"
    assert log.fence.note(0) == {"fence": 1, "last": 2, "source": SECOND}


def test_events_from_before_numbers_pass_and_then_numbers_may_begin_anywhere() -> None:
    log = Log()
    assert log.pass_on((5, 0), (9, 0), incarnation=0) == [5, 9]
    assert log.pass_on((10, 41), (12, 42)) == [10, 12]
    assert log.foreign((13, 0)) == [True], "none comes without a number any more"


def test_the_broker_is_asked_of_the_unusual_only() -> None:
    asked: list[int] = []

    def holds(partition: int, incarnation: int, offset: int) -> bool:
        asked.append(offset)
        return offset < 1_000_000

    log = Log(replace(TERMS, holds=holds), fence=5, last=1, source=FIRST)
    assert log.foreign((6, 2), (5 + USUAL_LEAP, 3)) == [False, False]
    assert asked == []
    assert log.foreign((2_000_000, 2)) == [True]
    assert log.foreign((7, 9)) == [False]
    assert log.foreign((6, 2), (2_000_000, 3)) == [False, True]
    assert log.foreign((6, 2), incarnation=STRANGE) == [True]
