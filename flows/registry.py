"""The one list of flows: what runs, what it reads, what it writes.

To add a flow, write its file beside this one and add its entry to FLOWS: launch, lag, supervisor,
demo, alerts, colours and benchmarks follow from it. The flows of a new family come by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

from flows.domain.families import FAMILIES
from flows.domain.family import Family


@dataclass(frozen=True)
class Flow:
    """A flow: the function `flow(*arguments)` of a module of this package.

    `name` is that of its consumer group, of its telemetry label and of its process. `reads` and
    `writes` are the settings that hold its topics. With `scales`, several processes can share its
    partitions. `poll_slowdown` collects for longer what nobody waits for by the millisecond: a
    batch of three records costs as much as one of three hundred.
    """

    name: str
    module: str
    reads: str
    writes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    scales: bool = False
    poll_slowdown: int = 1


def cleaning(family: Family) -> Flow:
    """Give the flow that cleans a family."""
    return Flow(
        _name("clean", family),
        "flows.clean",
        reads=f"topic_raw_{family.name}",
        writes=(f"topic_clean_{family.name}", "topic_dead_letters", "topic_tallies"),
        arguments=(family.name,),
        scales=True,
    )


def counting(family: Family) -> Flow:
    """Give the flow that counts a family."""
    return Flow(
        _name("metrics", family),
        "flows.metrics",
        reads=f"topic_clean_{family.name}",
        writes=("topic_dead_letters",),
        arguments=(family.name,),
        scales=True,
    )


def _name(verb: str, family: Family) -> str:
    # web's flows had these names before there were families, and groups and rows go by them
    return verb if family.name == "web" else f"{verb}_{family.name}"


# The name is not the module's: consumer groups and rows that are in use go by it.
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
_WEB, *_OTHERS = FAMILIES

# In the order of their telemetry ports: what is new comes last.
FLOWS = (
    cleaning(_WEB),
    counting(_WEB),
    DEAD_LETTERS,
    QUALITY,
    *(make(family) for family in _OTHERS for make in (cleaning, counting)),
)
BY_NAME = {flow.name: flow for flow in FLOWS}
NAMES = tuple(BY_NAME)
CLEANING = tuple(cleaning(family).name for family in FAMILIES)
COUNTING = tuple(counting(family).name for family in FAMILIES)

UPSTREAM_FIRST = tuple(
    TopologicalSorter(
        {f.name: [g.name for g in FLOWS if f.reads in g.writes] for f in FLOWS}
    ).static_order()
)
"""The names in an order in which nothing that is drained later can refill what was drained."""
