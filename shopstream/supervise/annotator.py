"""Write annotations from a supervisor, which must not wait for a database."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import closing, suppress

import psycopg

from database.annotations import Annotation, annotate
from database.connection import connect
from flows.domain.errors import ShopstreamError

RETRY_SECONDS = 2.0
# at the end nobody should wait long for a database that is away
LAST_SECONDS, LAST_RETRY_SECONDS = 3.0, 0.2


class Annotator:
    """Write annotations in a thread, when the database is there.

    State: what is not written yet, in memory.
    Delivery: best effort; what cannot be written in the last seconds is lost, and stands in the
    logs of the processes too.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: queue.SimpleQueue[Annotation | None] = queue.SimpleQueue()
        self._deadline: float | None = None
        self.failures = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="annotator", daemon=True)

    def __enter__(self) -> Annotator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadline = time.monotonic() + LAST_SECONDS
        self._closing.set()
        self._queue.put(None)
        self._thread.join(LAST_SECONDS * 2)

    def put(self, annotation: Annotation) -> None:
        """Hand over an annotation to be written."""
        self._queue.put(annotation)

    def _run(self) -> None:
        while (annotation := self._queue.get()) is not None:
            while not self._write(annotation) and self._may_retry():
                self._pause()

    def _may_retry(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def _pause(self) -> None:
        if self._deadline is None:
            self._closing.wait(RETRY_SECONDS)
        else:
            time.sleep(LAST_RETRY_SECONDS)

    def _write(self, annotation: Annotation) -> bool:
        with suppress(psycopg.Error, ShopstreamError), closing(connect(self._url, 0.0)) as db:
            annotate(db, annotation)
            return True
        self.failures += 1
        return False
