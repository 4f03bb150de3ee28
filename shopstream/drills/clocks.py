"""Clocks that are wrong, or step: the producer's, the broker's and our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.native import packages
from deploy.native.errors import ServicesError
from shopstream.drills import records, steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import Stage, expect

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
EACH = 30
# an idle source that sleeps for as long as the clock stepped back stands for an hour
STEP_SECONDS = 30.0


@dataclass(frozen=True)
class Clock:
    """A clock of a process that steps when its file is written; needs libfaketime."""

    library: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process go by this clock."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            # real clocks step too, and the monotonic one does not
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, offset: str) -> None:
        """Set it to the real time and an offset, such as `-1h` or `+1d`."""
        self.file.write_text(f"{offset}\n")


def clock_of(folder: Path, name: str) -> Clock:
    """Make a clock that goes right.

    Errors: ServicesError where libfaketime cannot be had.
    """
    root = packages.unpacked("faketime", folder / "install.log")
    library = next(root.rglob("libfaketimeMT.so.1"), None)
    if library is None:
        raise ServicesError("the package faketime holds no library")
    clock = Clock(library, folder / f"clock-{name}")
    clock.step("+0")
    return clock


def clocks(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Let the producer's clock be wrong, the broker's step, and then our own."""
    did: dict[str, Any] = {}
    try:
        ours, theirs = clock_of(private.folder, "ours"), clock_of(private.folder, "theirs")
    except ServicesError as reason:
        stage.start_all()
        return {"producer": _producer(stage, seed), "skipped": {"steps": str(reason)}}
    private.stop_kafka()
    private.start_kafka(environment=theirs.environment)
    stage.start_all(**ours.environment)
    did["producer"] = _producer(stage, seed)
    did["broker"] = _broker(stage, seed + 1, theirs)
    did["ours"] = _ours(stage, seed + 2, ours)
    did["restarts"] = {name: actor.restarts for name, actor in stage.actors.items()}
    did["proof"] = stage.prove(ledger=None)
    return did


def _producer(stage: Stage, seed: int) -> dict[str, int]:
    """Send events of a clock a day ahead, and a day behind; the others are not harmed."""
    before, letters = steps.counted(stage), steps.letters(stage)
    at = records.now_ms()
    wrong = [
        records.keyed(records.view(seed * 2**40 + i, "wrong", at + shift))
        for i, shift in enumerate((DAY_MS, -DAY_MS, 10 * HOUR_MS))
    ]
    right = steps.views(seed, EACH, unreadable=False)
    # the first of a visitor's events, so that those behind in its partition come after right ones
    stage.produce(right)
    stage.produce(wrong)
    stage.produce(steps.views(seed + 2**9, EACH, unreadable=False))
    stage.drain()
    accepted, refused = steps.counted(stage) - before, steps.letters(stage) - letters
    expect(accepted >= 2 * EACH, f"{accepted} of {2 * EACH} right events were accepted")
    return {"accepted": accepted, "refused": refused}


def _broker(stage: Stage, seed: int, clock: Clock) -> dict[str, Any]:
    """Let the broker's clock be a day ahead for one record of each partition, then go right."""
    clock.step("+1d")
    for partition, record in steps.closing(seed, 4):
        stage.produce([record], partition=partition)
    clock.step("+0")
    for portion in range(3):
        stage.produce(steps.views(seed + 2**10 + portion, EACH, unreadable=False))
    stage.drain()
    ahead = stage.query(
        "SELECT sum(records)::int FROM quality.outcomes_1m_by_partition"
        " WHERE window_start > now() + interval '12 hours'"
    )
    told = ahead[0][0] or 0
    # all that came behind them would be told in the minute of tomorrow
    expect(told <= 4, f"{told} records are told in minutes of tomorrow, of which 4 have its stamp")
    return {"records of tomorrow": told}


def _ours(stage: Stage, seed: int, clock: Clock) -> dict[str, Any]:
    """Let our clock step back and forward: records that come then are counted at once."""
    took = {}
    for number, offset in enumerate(("-1h", "+0", "+1h")):
        clock.step(offset)
        stage.produce(steps.views(seed + 2**11 + number, EACH, unreadable=False))
        before = records.now_ms()
        stage.drain(seconds=STEP_SECONDS)
        took[offset] = (records.now_ms() - before) / 1000
    clock.step("+0")
    return {"seconds until counted": took}
