"""Where a flow stands, kept in the database beside its rows (ops.checkpoints).

Each flush writes the places of the moment in the transaction of its rows, so the two never differ.
A start takes the lower one of them and what the group has committed to Kafka: a database that was
restored from a backup says itself from where it must be filled again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

import psycopg

from flows.connectors import postgres
from flows.connectors.records import Pulled
from flows.domain.checkpoint import Checkpoint
from flows.domain.errors import TransientError
from flows.domain.losses import Loss
from flows.domain.tables import CHECKPOINTS, AnyRows, TupleRows, loss_rows

READ = (
    "SELECT partition, resume, rewind, note FROM ops.checkpoints"
    " WHERE flow = %s AND topic = %s AND topic_id = %s"
)

# Rows of a flow from before it wrote places.
OLDER = (
    "SELECT EXISTS (SELECT FROM ops.progress WHERE flow = %s)"
    " AND NOT EXISTS (SELECT FROM ops.checkpoints WHERE flow = %s)"
)


class Places:
    """The places of one flow in one topic.

    State: what this process has written.
    """

    def __init__(self, flow: str, topic: str) -> None:
        self.topic_id = ""
        self.flow, self._topic = flow, topic
        self._written: dict[int, Checkpoint] = {}
        self._sent: dict[int, Checkpoint] = {}

    def read(
        self, url: str, patience_seconds: float, topic_id: str
    ) -> dict[int, Checkpoint] | None:
        """Read where the rows of the database stand in the topic with this id, by partition.

        None where they are from before they told it.
        """
        self.topic_id = topic_id
        with postgres.connect(url, patience_seconds, lambda _: None) as db:
            stored = self._read(db)
            if not stored and db.execute(OLDER, (self.flow, self.flow)).fetchone() == (True,):
                return None
            return stored

    def _read(self, db: psycopg.Connection) -> dict[int, Checkpoint]:
        rows = db.execute(READ, (self.flow, self._topic, self.topic_id)).fetchall()
        return {p: Checkpoint(resume, rewind, note) for p, resume, rewind, note in rows}

    def rows(self, checkpoints: Mapping[int, Checkpoint]) -> TupleRows:
        """Make the rows of the places that moved since they were last written."""
        self._sent = dict(checkpoints)
        moved = {p: c for p, c in checkpoints.items() if c != self._written.get(p)}
        return TupleRows(
            CHECKPOINTS,
            [
                (self.flow, self._topic, self.topic_id, p, c.resume, c.rewind, json.dumps(c.note))
                for p, c in moved.items()
            ],
        )

    def committed(self) -> None:
        """Take note that the rows are committed."""
        # a new one, never in place: the flow reads it while a flush writes
        self._written = self._written | self._sent

    def written(self) -> dict[int, Checkpoint]:
        """Map each partition to where the committed rows stand."""
        return self._written

    def check(self, db: psycopg.Connection) -> None:
        """Hold a new connection's database against what was written.

        Errors: TransientError when it has forgotten something: a restart reads it again.
        """
        if not self._written:
            return
        stored = self._read(db)
        behind = {
            p: written.resume - stored[p].resume if p in stored else written.resume
            for p, written in self._written.items()
            if p not in stored or stored[p].resume < written.resume
        }
        if behind:
            raise TransientError(
                f"the database has forgotten {sum(behind.values()):,} records of {self._topic}"
                f" (partitions {', '.join(map(str, sorted(behind)))}) that were written to it: it"
                " is another one, or was restored. A restart reads them again"
            )


class WithPlaces:
    """The rows of a flush, with the places at which they were taken."""

    def __init__(
        self,
        places: Places,
        checkpoints: Callable[[], Mapping[int, Checkpoint]],
        pulled: Pulled[Iterable[AnyRows]] | None,
        losses: Callable[[], list[Loss]],
    ) -> None:
        self._places, self._checkpoints = places, checkpoints
        self._pulled, self._losses = pulled, losses
        self._flow = places.flow

    def take(self) -> Iterable[AnyRows]:
        """Give what changed since the last call."""
        rows: list[AnyRows] = [] if self._pulled is None else list(self._pulled.take())
        rows.append(loss_rows(self._flow, self._losses()))
        rows.append(self._places.rows(self._checkpoints()))
        return [part for part in rows if len(part)]
