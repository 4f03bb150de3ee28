"""Choose the services of a demo, and make its topics, tables and history."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from database.migrate import migrate
from flows.domain.errors import ConfigError
from flows.domain.rollups import Grain
from flows.runtime.settings import Settings
from generators.shoppers.history import History
from shopstream.backfill.load import load
from shopstream.demo import dev_services, reset
from shopstream.demo.dev_services import Services
from shopstream.demo.working import working
from shopstream.kafka import topics

PARTITIONS = 4
# nobody should wait long for the history of a demo: 30 days are about a million rows at this rate,
# and take some ten seconds
HISTORY_RATE = 1.0


@contextmanager
def open_services(embedded: bool, folder: Path) -> Iterator[Services]:
    """Open those of `make services` where they are up and no other demo uses them, else embedded.

    Errors: ConfigError for services that the user named himself: a demo begins with empty topics
    and tables.
    """
    native = None if embedded else dev_services.native()
    named = None if embedded else dev_services.from_environment()
    if named is not None and (native is None or named.bootstrap != native.bootstrap):
        raise ConfigError(
            "a demo empties the topics and tables that it uses, so it does not run on the Kafka of"
            " KAFKA_BOOTSTRAP_SERVERS; unset it, or use --embedded"
        )
    if native is not None:
        with (dev_services.NATIVE.parent / "demo.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another demo uses the real services: this one uses embedded ones")
            else:
                yield native
                return
    with dev_services.embedded(folder) as services:
        yield services


def prepare(settings: Settings, services: Services) -> None:
    """Give the demo empty topics, and tables that fit the catalogue."""
    with working("making topics and tables"):
        if services.embedded:
            topics.touch(settings)
        else:
            reset.empty(settings)
            topics.ensure(settings, PARTITIONS)
        migrate(settings.database_url, settings.startup_seconds)


def fill_history(settings: Settings, days: int, seed: int) -> None:
    """Fill hours and days; minutes hold what is proved at the end, and nothing else."""
    past = History.until(datetime.now(UTC), days, HISTORY_RATE, seed)
    with working(f"filling {days} days of history"):
        result = load(settings, past, (Grain.HOUR, Grain.DAY))
    print(
        f"history: {result.total:,} synthetic rows in hours and days since"
        f" {past.start:%Y-%m-%d}, in {result.seconds:.0f} s; `python -m shopstream history` also"
        " makes minutes, `--remove` takes all away",
        flush=True,
    )
