"""When a flow is called stuck: no progress for a while, and records wait. The time is told, so
nothing here sleeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.runtime.telemetry.backlog import Backlog
from flows.runtime.telemetry.health import Health

NOON = 1_772_366_400_000


def batch_of(*records: tuple[int, int, int]) -> Batch:
    """(partition, offset, timestamp) each."""
    columns = [np.array(c, np.int64) for c in zip(*records, strict=True)] or [
        np.empty(0, np.int64)
    ] * 3
    nothing = pa.nulls(len(records), pa.binary())
    return Batch(columns[0].astype(np.int32), columns[1], columns[2], nothing, nothing, True)


def backlog_of(resume: int, rewind: int, end: int) -> Backlog:
    backlog = Backlog()
    backlog.begin("raw.web", {0: Checkpoint(resume, rewind)}, {0: end})
    return backlog


# health


def test_it_is_red_before_it_reads() -> None:
    verdict = Health(30).verdict(100.0, "waiting for Kafka at kafka:9092")
    assert not verdict.healthy
    assert verdict.line == "starting, at waiting for Kafka at kafka:9092"


def test_records_that_wait_without_progress_turn_it_red_and_progress_turns_it_green() -> None:
    health = Health(30)
    health.observe(0.0, progress=10, waiting=500)
    assert health.verdict(30.0, "the flush of database").healthy
    verdict = health.verdict(30.1, "the flush of database")
    assert verdict.line == "no progress for 30 s at the flush of database, while 500 records wait"
    assert not verdict.healthy
    health.observe(31.0, progress=11, waiting=499)
    assert health.verdict(31.0, "").healthy


def test_what_was_lost_is_told() -> None:
    health = Health(30)
    health.observe(0.0, progress=10, waiting=0)
    verdict = health.verdict(1.0, "polling", lost=1_234)
    assert verdict.healthy
    assert verdict.line == (
        "ok: nothing waits; 1,234 records were gone before they were read (ops.losses)"
    )


def test_an_idle_flow_is_green_for_ever() -> None:
    health = Health(30)
    health.observe(0.0, progress=10, waiting=0)
    assert health.verdict(1e6, "polling").line == "ok: nothing waits"


def test_the_first_record_after_an_idle_hour_has_all_the_time() -> None:
    health = Health(30)
    health.observe(0.0, progress=10, waiting=0)
    health.observe(3_600.0, progress=10, waiting=0)
    health.observe(3_601.0, progress=10, waiting=1)
    assert health.verdict(3_629.0, "").healthy
    assert not health.verdict(3_631.0, "").healthy


def test_slow_progress_is_progress() -> None:
    health = Health(30)
    for n in range(100):
        health.observe(n * 29.0, progress=n, waiting=10**9)
        assert health.verdict(n * 29.0 + 28, "").healthy


# what waits


def test_a_batch_waits_until_it_has_gone_through() -> None:
    backlog = backlog_of(0, 0, 10)
    backlog.take(batch_of((0, 0, NOON), (0, 1, NOON + 5)), {0: 10}, NOON + 100)
    assert backlog.unread() == {0: 10}
    backlog.passed()
    assert backlog.unread() == {0: 8}


def test_what_is_read_again_to_rebuild_the_state_is_progress_but_no_lag() -> None:
    backlog = backlog_of(resume=5, rewind=2, end=5)
    before, waiting = backlog.work()
    assert (waiting, backlog.rebuilding()) == (0, True)
    backlog.take(batch_of((0, 2, NOON), (0, 3, NOON)), {0: 5}, NOON)
    backlog.passed()
    assert backlog.work() == (before + 2, 0)
    backlog.take(batch_of((0, 4, NOON)), {0: 5}, NOON)
    backlog.passed()
    assert not backlog.rebuilding()


def test_while_an_epoch_closes_what_is_not_committed_waits_too() -> None:
    backlog = backlog_of(0, 0, 0)
    backlog.take(batch_of((0, 0, NOON), (0, 1, NOON)), {0: 2}, NOON)
    backlog.passed()
    assert backlog.work()[1] == 0
    backlog.closing()
    assert backlog.work()[1] == 2
    backlog.committed({0: 2})
    assert backlog.work()[1] == 0


def test_a_long_epoch_is_no_stall() -> None:
    backlog, health = backlog_of(0, 0, 0), Health(30)
    backlog.take(batch_of((0, 0, NOON)), {0: 1}, NOON)
    backlog.passed()
    health.observe(0.0, *backlog.work())
    health.observe(59.0, *backlog.work())
    assert health.verdict(100.0, "").healthy


# how long


def test_the_age_of_what_is_worked_on_is_exact() -> None:
    backlog = backlog_of(0, 0, 9)
    backlog.take(batch_of((0, 0, NOON), (0, 1, NOON + 900)), {0: 9}, NOON + 1_000)
    assert backlog.ages(NOON + 2_000) == {0: 2.0}


def test_without_lag_the_age_is_0_however_old_the_last_record_is() -> None:
    backlog = backlog_of(0, 0, 0)
    backlog.take(batch_of((0, 0, NOON)), {0: 1}, NOON)
    backlog.passed()
    assert backlog.ages(NOON + 3_600_000) == {0: 0.0}


def test_a_record_after_an_idle_hour_is_not_an_hour_old() -> None:
    backlog = backlog_of(0, 0, 0)
    backlog.take(batch_of((0, 0, NOON)), {0: 1}, NOON)
    backlog.passed()
    backlog.look({0: 1}, NOON + 3_600_000)
    backlog.look({0: 2}, NOON + 3_600_500)
    assert backlog.ages(NOON + 3_601_000) == {0: 1.0}


def test_the_age_is_unknown_until_something_was_seen() -> None:
    assert backlog_of(0, 0, 100).ages(NOON) == {}


def test_news_within_a_batch_that_begins_with_repetitions_have_their_own_age() -> None:
    backlog = backlog_of(resume=6, rewind=5, end=8)
    backlog.take(batch_of((0, 5, NOON - 60_000), (0, 6, NOON), (0, 7, NOON + 1)), {0: 8}, NOON)
    assert backlog.ages(NOON + 3_000) == {0: 3.0}


def test_a_clock_ahead_of_ours_makes_no_negative_age() -> None:
    backlog = backlog_of(0, 0, 1)
    backlog.take(batch_of((0, 0, NOON + 5_000)), {0: 1}, NOON)
    assert backlog.ages(NOON) == {0: 0.0}


def test_where_a_log_begins_is_known_once_the_broker_said_so() -> None:
    backlog = backlog_of(0, 0, 9)
    assert backlog.logs() == {}
    backlog.log_starts_at({0: 3, 7: 5})  # partition 7 is another process's
    assert backlog.logs() == {0: (3, 9)}


def test_marks_of_a_transaction_are_no_lag() -> None:
    backlog = backlog_of(0, 0, 11)
    backlog.take(batch_of(*((0, n, NOON) for n in range(10))), {0: 11}, NOON)
    backlog.nothing_readable(0, 11)
    assert backlog.unread() == {0: 11}, "what is in hand has not gone through"
    backlog.passed()
    assert backlog.unread() == {0: 1}
    backlog.nothing_readable(0, 11)
    assert backlog.unread() == {0: 0}
    backlog.take(batch_of((0, 11, NOON)), {0: 13}, NOON)
    assert backlog.unread() == {0: 2}


@given(
    st.lists(st.tuples(st.sampled_from(["poll", "look", "commit"]), st.integers(1, 5)), max_size=40)
)
def test_lag_is_the_end_less_what_went_through(moves: list[tuple[str, int]]) -> None:
    """Against plain arithmetic, over any order of moves; what is done never shrinks."""
    backlog, end, taken, gone, committed = backlog_of(0, 0, 0), 0, 0, 0, 0
    for move, n in moves:
        processed = backlog.work()[0]
        if move == "poll":
            backlog.passed()
            gone, taken = taken, taken + n
            end = max(end, taken)
            backlog.take(batch_of(*((0, gone + i, NOON) for i in range(n))), {0: end}, NOON)
        elif move == "look":
            end += n
            backlog.look({0: end}, NOON)
        else:
            backlog.committed({0: gone})
            committed = gone
        assert backlog.unread() == {0: end - gone}
        assert backlog.work() == (gone + committed, end - gone)
        assert backlog.work()[0] >= processed


@pytest.mark.parametrize("waiting", [0, 1])
def test_the_line_is_one_line(waiting: int) -> None:
    health = Health(1)
    health.observe(0.0, 0, waiting)
    assert "\n" not in health.verdict(5.0, "polling").line
