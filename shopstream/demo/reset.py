"""Delete our topics, groups and tables, on the services of `make services` alone.

`open_services` of demo/prepare.py sees to that.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql

from database.connection import connect
from database.migrate import TABLES
from flows.connectors.postgres import identifier
from flows.domain.errors import TransientError
from flows.registry import NAMES
from flows.runtime.settings import Settings
from shopstream.kafka.topics import existing, wanted


def empty(settings: Settings) -> None:
    """Delete the topics, the committed offsets and the schemas; a demo makes them anew."""
    admin = AdminClient(settings.kafka.client({}))
    names = {t.name for t in wanted(settings, 1)}
    old_topics = names & existing(admin, settings.startup_seconds).keys()
    if old_topics:
        for future in admin.delete_topics(sorted(old_topics), operation_timeout=30).values():
            future.result()
    groups = [settings.group(flow) for flow in NAMES]
    for group, future in admin.delete_consumer_groups(groups).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].name() not in ("GROUP_ID_NOT_FOUND", "COORDINATOR_NOT_AVAILABLE"):
                raise TransientError(
                    f"group {group} cannot be deleted: {error.args[0].str()}"
                ) from error
    until = time.monotonic() + settings.startup_seconds
    while names & existing(admin).keys():
        if time.monotonic() > until:
            raise TransientError("the topics of an earlier demo are still being deleted")
        time.sleep(0.1)
    with connect(settings.database_url, settings.startup_seconds) as db:
        # one per transaction: a year of chunks in one would need more locks than a server has
        for table in TABLES:
            db.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(identifier(table.name)))
        db.execute("DROP SCHEMA IF EXISTS gold, quality, ops CASCADE")
