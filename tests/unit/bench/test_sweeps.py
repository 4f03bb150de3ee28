"""Sweeps: what counts as flat, as caught up, and which rates are tried."""

from __future__ import annotations

import numpy as np
import pytest

from bench.__main__ import steps
from bench.runner import STEPS
from bench.sweeps import Sent, bisect, caught_up_seconds, latency_by_second
from generators.config import Report


def sent(latency_ms: list[float], behind_p99_ms: float = 0.0) -> Sent:
    """Give events that were due each second from 10 s on."""
    count = len(latency_ms)
    report = Report(count, count, count, behind_p99_ms, behind_p99_ms, {}, {}, {})
    return Sent(report, 10_000.0 + 1_000.0 * np.arange(count), np.array(latency_ms))


@pytest.mark.parametrize(
    ("run", "flat"),
    [
        (sent([80, 90, 300, 320]), True),
        (sent([80, 90, 300, 331]), False),
        (sent([80, 80, 80, 80], behind_p99_ms=251.0), False),  # the rate was not sent
    ],
)
def test_a_rate_is_flat_if_it_was_sent_and_latency_did_not_grow(run: Sent, flat: bool) -> None:
    assert run.flat is flat


def test_bisection_closes_in_on_the_highest_rate_that_holds() -> None:
    tried = []
    for rate, answer in bisect(5_000.0, 160_000.0, 1.05):
        tried.append(rate)
        answer.append(rate <= 60_000.0)
    best = max(rate for rate in tried if rate <= 60_000.0)
    assert 60_000 / 1.05 < best <= 60_000
    assert len(tried) == 7


def test_caught_up_is_when_the_last_event_was_seen_that_took_too_long() -> None:
    run = sent([80, 5_000, 4_000, 1_001, 1_000, 80])
    assert caught_up_seconds(run, killed_ms=10_500.0) == 5.5  # due at 11 s and 12 s, seen at 16 s
    assert caught_up_seconds(sent([80, 90]), killed_ms=10_500.0) == 0.0
    assert latency_by_second(run, 11_000.0)[:2] == [(-1, 80.0), (0, 5_000.0)]


def test_sweeps_run_only_when_they_are_named() -> None:
    assert steps("restart,find-max,chain") == ("chain", "find-max", "restart")
    assert not {"find-max", "cardinality", "restart"} & set(STEPS)
