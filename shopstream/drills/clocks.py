"""Clocks that are wrong, or step: the producer's, the broker's and our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from deploy.native import packages
from deploy.native.errors import ServicesError
from shopstream.drills import records, steps
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import PARTITIONS, Stage, expect

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NO_BOUND = str(2**63 - 1)
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
            # else a wait for a condition never ends when the clock is behind
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def step(self, offset: str) -> None:
        """Set it to the real time and an offset, such as `-1h` or `+1d`."""
        self.file.write_text(f"{offset}\n")


def clock_of(folder: Path) -> Clock:
    """Make a clock that goes right.

    Errors: ServicesError where libfaketime cannot be had.
    """
    root = packages.unpacked("faketime", folder / "install.log")
    library = next(root.rglob("libfaketimeMT.so.1"), None)
    if library is None:
        raise ServicesError("the package faketime holds no library")
    clock = Clock(library, folder / "clock")
    clock.step("+0")
    return clock


def clocks(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Let the producer's clock be wrong, the broker's step, and then our own."""
    did: dict[str, Any] = {}
    try:
        ours = clock_of(private.folder)
    except ServicesError as reason:
        stage.start_all()
        did["skipped"] = {"ours": str(reason)}
    else:
        stage.start_all(**ours.environment)
        for actor in stage.actors.values():
            # a flow that is started again starts with the right time
            del actor.environment["LD_PRELOAD"]
        did["ours"] = _ours(stage, seed, ours)
    did["producer"] = _producer(stage, seed + 1)
    did["broker"] = _broker(stage, seed + 2)
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


def _broker(stage: Stage, seed: int) -> dict[str, Any]:
    """Let the broker's clock be a day ahead for one record of each partition, then go right.

    Java does not run under libfaketime; a topic that takes the producer's stamp for a moment gets
    the log that such a broker would write.
    """
    stamps = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": NO_BOUND}
    _configure(stage, stamps)
    tomorrow = records.now_ms() + DAY_MS
    for partition, record in steps.closing(seed, PARTITIONS):
        stage.produce([record], partition=partition, timestamp_ms=tomorrow)
    _configure(stage, {"message.timestamp.type": "LogAppendTime"})
    for portion in range(3):
        stage.produce(steps.views(seed + 2**10 + portion, EACH, unreadable=False))
    stage.drain()
    ((ahead,),) = stage.query(
        "SELECT coalesce(sum(records), 0)::int FROM quality.outcomes_1m_by_partition"
        " WHERE window_start > now() + interval '12 hours'"
    )
    # all that came behind them would be told in the minute of tomorrow
    wanted = f"of which {PARTITIONS} have its stamp"
    expect(ahead <= PARTITIONS, f"{ahead} records are told in minutes of tomorrow, {wanted}")
    return {"records of tomorrow": ahead}


def _configure(stage: Stage, settings: dict[str, str]) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    topic = stage.topic("raw_web")
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client = steps.admin(stage)
    for future in client.incremental_alter_configs([resource]).values():
        future.result(timeout=20)


def _ours(stage: Stage, seed: int, clock: Clock) -> dict[str, Any]:
    """Let our clock step back by an hour: records that come then are counted at once.

    Forward it cannot be shown: the client's waits under libfaketime do not follow.
    """
    took = {}
    for number, offset in enumerate(("+0", "-1h")):
        clock.step(offset)
        stage.produce(steps.views(seed + 2**11 + number, EACH, unreadable=False))
        before = records.now_ms()
        print(f"  {offset}", flush=True)
        stage.drain(seconds=STEP_SECONDS)
        took[f"{number}: {offset}"] = (records.now_ms() - before) / 1000
    clock.step("+0")
    return {"seconds until counted": took}
