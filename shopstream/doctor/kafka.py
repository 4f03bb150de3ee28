"""Look at the broker: the topics, their settings, and who reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka.admin import AdminClient

from flows.domain.errors import ShopstreamError
from flows.registry import FLOWS, Flow
from flows.runtime.settings import Settings
from shopstream.doctor.finding import Finding
from shopstream.kafka import topics
from shopstream.kafka.groups import Group

RUN_TOPICS = "Run `python -m shopstream topics`"
# A flow commits each second, under `python -m bytewax.run` each ten.
LOOK_SECONDS, WATCHED_SECONDS = 1.0, 12.0


def examine_kafka(settings: Settings) -> Iterator[Finding]:
    """Look at the broker, the topics and their settings."""
    admin = AdminClient(settings.kafka.quiet_client())
    try:
        partitions_of = topics.existing(admin, 5.0)
    except ShopstreamError as error:
        yield Finding(
            "broker",
            f"{settings.bootstrap}: {error}",
            "Start it (`make services`) or set KAFKA_BOOTSTRAP_SERVERS",
        )
        return
    yield Finding("broker", f"{settings.bootstrap} answers")
    expected = topics.wanted(settings, 4, partitions_of)
    try:
        differences = topics.differences(admin, [t for t in expected if t.name in partitions_of])
    except ShopstreamError as error:
        differences = {}
        yield Finding(
            "topic settings", str(error), "An embedded broker has none; else check rights"
        )
    for topic in expected:
        yield examine_topic(topic.name, partitions_of, differences)
    for line in topics.unequal(settings, partitions_of):
        yield Finding(
            "partitions", line, "They must be equal: make the clean topic anew with as many as raw"
        )


def examine_topic(
    topic: str, partitions_of: dict[str, int], differences: topics.Differences
) -> Finding:
    """Look at one topic."""
    if topic not in partitions_of:
        return Finding(f"topic {topic}", "missing", RUN_TOPICS)
    if differences.get(topic):
        settings = ", ".join(
            f"{name} is {value}, should be {wanted}"
            for name, (value, wanted) in differences[topic].items()
        )
        return Finding(f"topic {topic}", settings, RUN_TOPICS)
    return Finding(f"topic {topic}", f"{partitions_of[topic]} partitions")


def examine_readers(settings: Settings) -> Iterator[Finding]:
    """Look whether each partition that has records waiting is read.

    Time: up to 12 s where one is not.
    """
    try:
        yield from _readers(settings)
    except ShopstreamError:
        return  # what is not there was told before


def _readers(settings: Settings) -> Iterator[Finding]:
    for flow in FLOWS:
        before = _waiting(settings, flow)
        unread = set(before)
        until = time.monotonic() + WATCHED_SECONDS
        while unread and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            now = _waiting(settings, flow)
            unread = {p for p in unread if p in now and now[p][0] == before[p][0]}
        if not unread:
            yield Finding(f"reading of {flow.name}", "no partition waits")
            continue
        records = sum(before[p][1] for p in unread)
        partitions = ", ".join(map(str, sorted(unread)))
        yield Finding(
            f"reading of {flow.name}",
            f"{records:,} records wait, and nobody reads partitions {partitions}",
            "Start the flow: of COUNT processes each ORDINAL from 0 must run",
        )


def _waiting(settings: Settings, flow: Flow) -> dict[int, tuple[int, int]]:
    """Map the partitions that have records waiting to where the group is, and how many."""
    with Group(settings, flow) as group:
        return {
            place.partition: (place.resume, place.high - place.resume)
            for place in group.places()
            if place.high > place.resume
        }
