"""Steps that several drills take."""

from __future__ import annotations

import time

from confluent_kafka.admin import AdminClient

from shopstream.drills import records
from shopstream.drills.stage import LOOK_SECONDS, DrillFailed, Stage, expect

STOPPED = 3
RESIDUE_SECONDS = 10.0
RESIDUE = {"ops.gold_account": "gold_residue"}


def generate(stage: Stage, ledger: str, seed: int, *options: str) -> None:
    """Send the generator's records, and wait for its end."""
    sending = stage.generate(*options, "--seed", str(seed), ledger=ledger)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 300)
    expect(sending.returncode == 0, "the generator failed: see generator.log")


def stops(stage: Stage, flow: str, *words: str) -> str:
    """Wait until a flow stops with exit code 3, and give its last words, which have these words."""
    code = stage.exit_of(flow)
    error = stage.last_words(flow)
    expect(code == STOPPED, f"{flow} ended with {code}, not {STOPPED}: {error}")
    for word in words:
        expect(word in error, f"{flow} does not say {word!r}: {error}")
    return error


def operate(stage: Stage, *words: str) -> str:
    """Run a command that changes something, as an operator would; gives what it printed."""
    ended = stage.command(*words)
    expect(ended.returncode == 0, f"{' '.join(words)}: {(ended.stdout + ended.stderr)[-800:]}")
    return ended.stdout


def tend_for(stage: Stage, seconds: float) -> None:
    """Let the processes run for a while, as a supervisor does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.tend()
        time.sleep(LOOK_SECONDS)


def no_residue(stage: Stage) -> str:
    """Hold the account of every record against what is stored."""
    # the counts of the last records are written a moment after their offsets are committed
    until = time.monotonic() + RESIDUE_SECONDS
    while (residues := stage.residues()) != (0, 0) and time.monotonic() < until:
        tend_for(stage, LOOK_SECONDS)
    if residues != (0, 0):
        views = ("ops.account", "ops.gold_account", "gold.residue_1m_by_partition")
        rows = {
            v: stage.query(f"SELECT * FROM {v} WHERE {RESIDUE.get(v, 'residue')} <> 0")
            for v in views
        }
        raise DrillFailed(f"residue {residues[0]}, gold residue {residues[1]}: {rows}")
    return "no residue"


def counted(stage: Stage) -> int:
    """Count the events in gold."""
    ((events,),) = stage.query("SELECT coalesce(sum(events), 0)::int FROM gold.traffic_1m")
    return int(events)


def letters(stage: Stage, flow: str = "clean") -> int:
    """Count the dead letters of a flow."""
    ((count,),) = stage.query(
        "SELECT count(*)::int FROM quality.dead_letters WHERE flow = %s", flow
    )
    return int(count)


def admin(stage: Stage) -> AdminClient:
    """Make a client that changes topics."""
    return AdminClient({"bootstrap.servers": stage.services.bootstrap, "log_level": 0})


def views(seed: int, count: int, unreadable: bool = True) -> list[records.Raw]:
    """Make page views of twenty visitors, and behind every third one a record nobody can read."""
    made: list[records.Raw] = []
    for i in range(count):
        event = records.view(seed * 2**20 + i, f"v{i % 20}", records.now_ms() - 100)
        made.append(records.keyed(event))
        if unreadable and i % 3 == 0:
            made.append((b"x", b"nobody reads this"))
    return made


def closing(seed: int, partitions: int) -> list[tuple[int, records.Raw]]:
    """Make one event per partition.

    Behind the mark of a transaction they bring a flow's place to the end of the topic.
    """
    return [
        (p, records.keyed(records.view(seed * 2**20 + 2**19 + p, f"end{p}", records.now_ms())))
        for p in range(partitions)
    ]
