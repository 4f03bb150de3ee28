"""The one list of flows: what runs, what it reads, what it writes.

To add a flow, write its file beside this one and add its entry here: launch, lag, supervisor, demo,
alerts, colours and benchmarks follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Flow:
    """A flow of this package.

    `name` is that of its consumer group, of its telemetry label and of its process. `reads` and
    `writes` are fields of the settings that hold topics; `tables` says that it also writes to the
    database. With `scales`, several processes can share its partitions.
    """

    name: str
    module: str
    reads: str
    writes: tuple[str, ...] = ()
    tables: bool = True
    scales: bool = False
    # What nobody waits for by the millisecond is collected longer: a batch of three records costs
    # as much as one of three hundred.
    poll_slowdown: int = 1


CLEAN = Flow(
    "clean",
    "flows.clean",
    reads="topic_raw_web",
    writes=("topic_clean_web", "topic_dead_letters", "topic_tallies"),
    tables=False,
    scales=True,
)
METRICS = Flow(
    "metrics",
    "flows.metrics",
    reads="topic_clean_web",
    writes=("topic_dead_letters",),
    scales=True,
)
# its name is that of the consumer group that deployed checkpoints are kept under
DEAD_LETTERS = Flow(
    "deadletters", "flows.dead_letters", reads="topic_dead_letters", poll_slowdown=7
)
QUALITY = Flow(
    "quality",
    "flows.quality",
    reads="topic_tallies",
    writes=("topic_dead_letters",),
    poll_slowdown=7,
)

FLOWS = (CLEAN, METRICS, DEAD_LETTERS, QUALITY)
BY_NAME = {flow.name: flow for flow in FLOWS}
NAMES = tuple(BY_NAME)

UPSTREAM_FIRST = tuple(
    TopologicalSorter(
        {f.name: [g.name for g in FLOWS if f.reads in g.writes] for f in FLOWS}
    ).static_order()
)
"""The names in an order in which nothing that is drained later can refill what was drained."""
