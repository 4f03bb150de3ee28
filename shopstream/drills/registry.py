"""The drills by name: what each does, how it is run, and which of them CI runs."""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flows.registry import UPSTREAM_FIRST
from flows.runtime.paths import ROOT, WORK
from flows.runtime.version import commit
from shopstream.demo.dev_services import Services
from shopstream.drills import (
    anew,
    brokers,
    clocks,
    contracts,
    databases,
    foreign,
    killing,
    load,
    overtaking,
)
from shopstream.drills.private import private_services
from shopstream.drills.stage import DrillFailed, open_stage

RESULTS = ROOT / "bench" / "results" / "drills.json"


@dataclass(frozen=True)
class Drill:
    """A fault that is made on purpose.

    `play` gets the stage and the seed, and the private services where it is `private`; it gives
    what it did. `options` are its numbers, which the command line can change. `small` ones are run
    by CI, with the numbers of `small`.
    """

    name: str
    about: str
    play: Callable[..., dict[str, Any]]
    options: Mapping[str, int] = field(default_factory=dict)
    private: bool = False
    small: Mapping[str, int] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


DRILLS = {
    drill.name: drill
    for drill in (
        Drill(
            "kill",
            "SIGKILL of random processes under load",
            killing.kill_anywhere,
            {"kills": 50},
            small={"kills": 8},
        ),
        Drill(
            "kill-points",
            "SIGKILL of each flow after a poll, before a flush, when rows are taken, before, in and"
            " after a transaction, before the commit of offsets, and while it rebuilds its state",
            killing.kill_at_points,
        ),
        Drill(
            "overlap",
            "two processes of each flow read the same partitions",
            load.overlap,
            {"duration": 20},
            small={"duration": 9},
        ),
        Drill(
            "rescale",
            "1, 2, 4 and again 1 process of clean and metrics, under load",
            load.rescale,
            {"duration": 32},
        ),
        Drill("storm", "every second record is a repetition", load.storm, {"duration": 20}),
        Drill("poison", "a quarter of the records cannot be read", load.poison, {"duration": 20}),
        Drill(
            "skew",
            "one visitor sends a third; one partition is idle, one is minutes behind",
            load.skew,
            {"events": 30_000},
        ),
        Drill(
            "constant-id",
            "one event id with ever new content, for many latenesses",
            load.constant_id,
            {"events": 2_000, "wait": 130},
        ),
        Drill(
            "huge",
            "values and keys at and over each limit, bombs, many visitors and products in one"
            " window",
            load.huge,
            {"visitors": 100_000},
        ),
        Drill("years", "two years of daily events in one go", load.years, {"days": 730}),
        Drill(
            "soak",
            "a steady load: memory, files and threads of each flow stay flat",
            load.soak,
            {"seconds": 60, "rate": 5_000},
        ),
        Drill(
            "broker",
            "the broker is killed, away, slow, and half-open",
            brokers.broker,
            {"away": 20},
            private=True,
        ),
        Drill(
            "power",
            "a power cut takes the end of raw.web, and new records take its offsets",
            brokers.power,
            private=True,
            small={},
        ),
        Drill(
            "power-outputs",
            "a power cut takes the ends of clean.web and tallies, which were read",
            brokers.power_of_outputs,
            private=True,
        ),
        Drill(
            "power-unread",
            "a power cut takes the end of clean.web, which metrics had not read",
            brokers.power_of_events,
            private=True,
        ),
        Drill(
            "incarnation",
            "raw.web is made anew, then all of Kafka; then the database is wiped",
            anew.incarnation,
            private=True,
        ),
        Drill(
            "database",
            "the database is killed, away, read-only, locked, out of connections, its disk full,"
            " restored to an older state",
            databases.database,
            {"away": 10},
            private=True,
        ),
        *(
            Drill(
                f"retention-{flow}",
                f"retention overtakes {flow}, down and running, under both policies",
                partial(overtaking.retention, flow=flow),
                private=True,
            )
            for flow in UPSTREAM_FIRST
        ),
        Drill(
            "clocks",
            "the producer's, the broker's and our own clock are wrong, and step",
            clocks.clocks,
            private=True,
        ),
        Drill(
            "schema",
            "v1, v2, an incompatible version, hostile schemas, and one that becomes known later",
            contracts.schema,
            private=True,
        ),
        Drill(
            "foreign",
            "records by other clients, in transactions, and straight into clean.web",
            foreign.foreign,
            private=True,
        ),
    )
}


@dataclass
class Outcome:
    """What a drill did, and how it ended."""

    drill: str
    about: str
    passed: bool
    seconds: float
    seed: int
    options: dict[str, int]
    did: dict[str, Any]
    why: str = ""
    commit: str = ""


def play(
    drill: Drill, at: Services | None, seed: int | None, options: Mapping[str, int]
) -> Outcome:
    """Run a drill; what fails is an outcome too."""
    seed = random.SystemRandom().randrange(2**16) if seed is None else seed
    numbers = {**drill.options, **options}
    folder = WORK / f"drill-{drill.name}-{time.strftime('%H%M%S')}"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        did, why = _played(drill, at, folder, partial(drill.play, seed=seed, **numbers)), ""
    except DrillFailed as failure:
        did, why = {"logs": str(folder.relative_to(ROOT))}, str(failure)
    except Exception as error:  # of a client or a broken service: the next drill runs all the same
        (folder / "trace.txt").write_text(traceback.format_exc())
        did, why = {"logs": str(folder.relative_to(ROOT))}, f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - began, 1)
    return Outcome(drill.name, drill.about, not why, seconds, seed, numbers, did, why, commit())


def _played(
    drill: Drill, at: Services | None, folder: Path, run: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    if drill.private:
        with (
            private_services() as private,
            open_stage(private.services, folder, **drill.settings) as stage,
        ):
            return run(stage, private)
    assert at is not None
    with open_stage(at, folder, **drill.settings) as stage:
        return run(stage)


def keep(outcomes: list[Outcome]) -> None:
    """Write outcomes beside those of other drills, newest of each."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known |= {outcome.drill: asdict(outcome) for outcome in outcomes}
    ordered = {name: known[name] for name in DRILLS if name in known}
    RESULTS.write_text(json.dumps(ordered, indent=1, default=str) + "\n")
