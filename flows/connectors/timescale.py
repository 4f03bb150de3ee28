"""Upsert rows into PostgreSQL, with or without TimescaleDB, beside the flow.

    flow      ... count, submit ......... count, submit ......... barrier, commit offsets ...
    thread              COPY, merge, commit     COPY, merge, commit

Delivery: at-least-once, idempotent. A row replaces the stored one only when its guard is higher, so
a replay writes nothing until it passes what is stored. All tables of a flush are one transaction,
with the places at which it was taken (places.py): only places that are committed here are committed
to Kafka, so a kill between submitting, committing and that repeats records, and loses none.
Back-pressure: one flush at a time; a flow waits for one that takes long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows.connectors.observers import NULL_OBSERVER, TableObserver
from flows.connectors.records import Pulled
from flows.connectors.upserter import Database, Pending, Upserter
from flows.connectors.upserts import UpsertStatements
from flows.domain.checkpoint import Checkpoint
from flows.domain.tables import AnyRows, Table

# An idle flow asks its database so often whether it is still there.
LOOK_SECONDS = 5.0
# A flush that lasts longer is waited for: what is counted meanwhile takes memory.
LONG_SECONDS = 1.0


class HasRows(Protocol):
    """An item on the edge to a table."""

    @property
    def rows(self) -> Sequence[AnyRows]:
        """Give the rows of the item."""

    @property
    def caught_up(self) -> bool:
        """Say whether the poll brought all that the topic has."""


class TimescaleSink(FixedPartitionedSink[Any, None]):
    """Write items that have rows to tables.

    With `pulled`, each flush also writes the rows that it gives.

    Time: writes when an item has `caught_up`, else at most once per `busy_seconds`: in a backlog
    each write would be replaced by the next.
    """

    def __init__(
        self,
        database: Database,
        tables: Sequence[Table],
        stopping: Callable[[], bool],
        observer: TableObserver = NULL_OBSERVER,
        pulled: Pulled[Iterable[AnyRows]] | None = None,
    ) -> None:
        self._arguments = (database, UpsertStatements(tables), stopping, observer, pulled)
        self._database = database
        self.writer: Writer | None = None

    def list_parts(self) -> list[str]:
        """Name the one part: the database."""
        return ["timescale"]

    def open(self) -> Writer:
        """Connect, so that a wrong setting or schema shows before the flow runs."""
        if self.writer is None:
            self.writer = Writer(*self._arguments)
        return self.writer

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Writer:
        """Give Bytewax the writer."""
        return self.open()

    def stored(self, topic_id: str) -> dict[int, Checkpoint] | None:
        """Read where the tables stand in the topic with this id; None where they do not tell."""
        places, database = self._database.places, self._database
        if places is None:
            return None
        return places.read(database.url, database.startup_seconds, topic_id)

    def written(self) -> dict[int, Checkpoint]:
        """Map each partition to where the rows stand that this process has committed."""
        places = self._database.places
        return {} if places is None else places.written()

    @property
    def wants_a_turn(self) -> bool:
        """Say whether a flush is due that had to wait for one which has ended since."""
        return self.writer is not None and self.writer.is_waiting


class Flush:
    """A flush on a thread of its own."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._failure: BaseException | None = None
        self.began = time.monotonic()
        # a daemon: a process that ends by an error does not wait for a database that is away
        self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised again where the flow waits for it
            self._failure = error

    @property
    def is_under_way(self) -> bool:
        """Say whether it has not ended."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Return when it has ended; raise what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure


class Writer(StatefulSinkPartition[Any, None]):
    """Write rows, all tables of a flush in one transaction.

    Errors: TransientError when the database stays away too long, PermanentError for a broken
    contract; of a flush on the thread, at the next item.
    """

    def __init__(
        self,
        database: Database,
        statements: UpsertStatements,
        stopping: Callable[[], bool],
        observer: TableObserver,
        pulled: Pulled[Iterable[AnyRows]] | None,
    ) -> None:
        self._busy_seconds = database.busy_seconds
        self._observer = observer
        self._pulled = pulled
        self._pending: dict[Table, list[AnyRows]] = {}
        self._may_pull = False
        self._is_due = False
        self._flush: Flush | None = None
        self._written = self._talked = time.monotonic()
        self._upserter = Upserter(database, statements, stopping, observer)
        self._upserter.look(database.startup_seconds)

    def write_batch(self, items: list[HasRows]) -> None:
        """Hold the rows of the items, and write them when it is time."""
        for item in items:
            self._hold(item.rows)
        self._may_pull = True
        busy = time.monotonic() - self._written >= self._busy_seconds
        self._is_due |= items[-1].caught_up or busy
        if self._is_due:
            self._submit()

    @property
    def is_waiting(self) -> bool:
        """Say whether a flush is due that had to wait for one which has ended since."""
        return self._is_due and (self._flush is None or not self._flush.is_under_way)

    def _hold(self, rows: Iterable[AnyRows]) -> None:
        for part in rows:
            self._pending.setdefault(part.table, []).append(part)

    def snapshot(self) -> None:
        """Begin to write everything at the end of an epoch."""
        self._submit()

    def _submit(self) -> None:
        """Begin a flush, unless one is under way."""
        flush = self._flush
        if flush is not None:
            if flush.is_under_way and time.monotonic() - flush.began < LONG_SECONDS:
                return
            self._wait_for(flush)
        work = self._next()
        if work is not None:
            self._flush = Flush(work)

    def _wait_for(self, flush: Flush) -> None:
        self._flush = None
        if flush.is_under_way:
            with self._observer.waiting("database"):
                flush.wait()
        flush.wait()

    def _next(self) -> Callable[[], None] | None:
        """Take all that waits, and give what is to be done with it."""
        # nothing can have changed before the first item
        if self._pulled is not None and self._may_pull:
            self._hold(self._pulled.take())
        self._written, self._is_due = time.monotonic(), False
        pending, self._pending = self._pending, {}
        if pending:
            self._talked = self._written
            self._observer.submitted()
            return lambda: self._write(pending)
        if self._written - self._talked > LOOK_SECONDS:
            # A database that was restored while nobody wrote must be found out, too.
            self._talked = self._written
            return self._upserter.look
        return None

    def _write(self, pending: Pending) -> None:
        with self._observer.flushing("database"):
            changes = self._upserter.write(pending)
        self._observer.rows_committed(changes)

    def flush(self) -> None:
        """Write all that waits, and return when it is committed."""
        if self._flush is not None:
            self._wait_for(self._flush)
        work = self._next()
        if work is not None:
            # not on a thread: at the end of a process none can be started
            work()

    def close(self) -> None:
        """Close the connection, once no flush uses it."""
        if self._flush is not None:
            self._wait_for(self._flush)
        self._upserter.close()
