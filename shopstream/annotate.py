"""`shopstream annotate`: put a mark on the dashboards' time axis."""

from __future__ import annotations

import argparse
import queue
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime

import psycopg

from database.annotations import Annotation, Kind, annotate
from database.connection import connect
from database.maintenance import broken_contract
from flows.domain.errors import ShopstreamError
from flows.runtime.settings import settings_or_exit

BY_HAND = [Kind.DEPLOYMENT, Kind.RESTART, Kind.REPLAY, Kind.SCHEMA]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=[str(k) for k in BY_HAND], help="what happened")
    parser.add_argument("title", help="in a few words")
    parser.add_argument("--text", default="", help="in more words")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="a tag; may be repeated"
    )
    parser.add_argument("--at", type=moment, metavar="TIME", help="when (ISO 8601; now)")
    parser.add_argument(
        "--until", type=moment, metavar="TIME", help="until when, for a stretch of time"
    )
    parser.set_defaults(run=run)


def moment(text: str) -> datetime:
    """A time of the command line; without a zone it is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def run(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    one = Annotation(
        Kind(args.kind),
        args.title,
        args.text,
        tuple(args.tag),
        args.at or datetime.now(UTC),
        args.until,
    )
    if one.end is not None and one.end < one.time:
        print("--until must not be before the time itself")
        return 2
    try:
        with closing(connect(settings.database_url, settings.startup_seconds)) as db:
            annotate(db, one)
    except psycopg.Error as error:
        raise broken_contract(error) from error
    print(f"{one.time.isoformat(timespec='seconds')} {one.kind}: {one.title}")
    return 0


class Annotator:
    """Annotations from a supervisor, which must not wait for a database: a thread writes them when
    it is there.

    State: what was not written yet, in memory. Delivery: best effort; what some seconds of trying
    at the end do not bring home is lost, and the logs have it too.
    """

    RETRY_SECONDS, LAST_SECONDS = 2.0, 3.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._told: queue.SimpleQueue[Annotation | None] = queue.SimpleQueue()
        self._until: float | None = None
        self.failures = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="annotator", daemon=True)

    def __enter__(self) -> Annotator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._until = time.monotonic() + self.LAST_SECONDS
        self._ended.set()
        self._told.put(None)
        self._thread.join(self.LAST_SECONDS * 2)

    def tell(self, one: Annotation) -> None:
        self._told.put(one)

    def _run(self) -> None:
        while (one := self._told.get()) is not None:
            while not self._write(one) and (self._until is None or time.monotonic() < self._until):
                self._ended.wait(self.RETRY_SECONDS) if self._until is None else time.sleep(0.2)

    def _write(self, one: Annotation) -> bool:
        with suppress(psycopg.Error, ShopstreamError), closing(connect(self._url, 0.0)) as db:
            annotate(db, one)
            return True
        self.failures += 1
        return False
