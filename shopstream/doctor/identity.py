"""Look whether the topics are still those that the tables hold numbers of."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka.admin import AdminClient

from database.connection import connect
from flows.connectors import kafka_topics
from flows.domain.errors import ShopstreamError
from flows.domain.families import FAMILIES
from flows.runtime.settings import Settings
from shopstream.doctor.finding import Finding
from shopstream.reattach import made_anew

LOOK_SECONDS = 5.0


def examine_identity(settings: Settings) -> Iterator[Finding]:
    """Hold the ids of the raw topics against those that the tables know."""
    client = AdminClient(settings.kafka.quiet_client())
    raw = [settings.topic(f"topic_raw_{family.name}") for family in FAMILIES]
    try:
        ids = kafka_topics.topic_ids(client, raw, LOOK_SECONDS)
        with connect(settings.database_url, LOOK_SECONDS) as db:
            anew = {topic for topic, _ in made_anew(db, settings, ids)}
    except ShopstreamError:
        return  # what is not there was told before
    for topic in raw:
        yield Finding(
            f"identity of {topic}",
            "made anew since it was counted" if topic in anew else "the one that was counted",
            "Run `python -m shopstream reattach`" if topic in anew else "",
        )
