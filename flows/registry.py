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

    `name` names its consumer group, its telemetry label and its process. `reads` and `writes` are
    the settings that hold its topics. With `scales`, several processes can share its partitions.
    `poll_slowdown` multiplies the pause between polls of a flow whose latency matters little: a
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
    """Describe the flow that cleans a family."""
    return Flow(
        _name("clean", family),
        "flows.clean",
        reads=f"topic_raw_{family.name}",
        writes=(f"topic_clean_{family.name}", "topic_dead_letters", "topic_tallies"),
        arguments=(family.name,),
        scales=True,
    )


def counting(family: Family) -> Flow:
    """Describe the flow that counts a family."""
    return Flow(
        _name("metrics", family),
        "flows.metrics",
        reads=f"topic_clean_{family.name}",
        writes=("topic_dead_letters",),
        arguments=(family.name,),
        scales=True,
    )


def _name(verb: str, family: Family) -> str:
    # consumer groups and stored rows have these names of web's flows, so they stay
    return verb if family.name == "web" else f"{verb}_{family.name}"


# Not the module's name: consumer groups and stored rows have this one, so it stays.
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

# Telemetry ports are given out in this order, so a new flow goes last.
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
"""The names, each flow after those that write what it reads: whoever drains them in this order
finds that no topic fills up again."""
