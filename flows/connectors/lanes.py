"""Which lane of partition numbers each incarnation of a topic has in the tables (ops.topics).

The first incarnation that a table hears of gets lane 0. A later one of a topic that flows of ours
write gets the next lane by itself, and so does a log whose end was cut off. A raw topic that was
made anew stops the flow instead: an operator must say that it is to go on (`shopstream reattach`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import psycopg

from flows.connectors import postgres
from flows.domain.errors import PermanentError
from flows.domain.incarnation import MOST_LANES, UNKNOWN, same_topic

# An outage of the database makes the flow wait here as it does in its sink.
PATIENCE_SECONDS = 600.0


def known_lanes(db: psycopg.Connection, topic: str) -> dict[int, int]:
    """Map the incarnations of a topic that the tables know to their lanes."""
    return dict(
        db.execute("SELECT incarnation, lane FROM ops.topics WHERE topic = %s", (topic,)).fetchall()
    )


def attach(db: psycopg.Connection, topic: str, incarnation: int) -> int:
    """Give an incarnation the next lane of its topic, unless it has one.

    Errors: PermanentError when all are taken.
    """
    with db.transaction():
        db.execute("LOCK TABLE ops.topics IN SHARE ROW EXCLUSIVE MODE")
        lanes = known_lanes(db, topic)
        if incarnation in lanes:
            return lanes[incarnation]
        lane = max(lanes.values(), default=-1) + 1
        if lane >= MOST_LANES:
            raise PermanentError(f"topic {topic} was made anew {MOST_LANES} times: no lane is left")
        db.execute(
            "INSERT INTO ops.topics (topic, incarnation, lane) VALUES (%s, %s, %s)",
            (topic, incarnation, lane),
        )
    return lane


class Lanes:
    """Look up lanes, and give them.

    `current` gives the incarnation that a topic has now.

    State: the lanes that were looked up.
    Errors: PermanentError for a raw topic that was made anew.
    """

    def __init__(
        self, url: str, raw_topics: Collection[str], current: Callable[[str], int]
    ) -> None:
        self._url, self._raw_topics, self._current = url, raw_topics, current
        self._lanes: dict[tuple[str, int], int] = {}
        self._foreign: set[tuple[str, int]] = set()

    def of(self, topic: str, incarnation: int) -> int | None:
        """Give the lane; None for an incarnation that the topic never had."""
        if incarnation == UNKNOWN:
            return 0
        key = topic, incarnation
        if key not in self._lanes and key not in self._foreign:
            lane = self._find(topic, incarnation)
            if lane is None:
                self._foreign.add(key)
                return None
            self._lanes[key] = lane
        return self._lanes.get(key)

    def _find(self, topic: str, incarnation: int) -> int | None:
        with postgres.connect(self._url, PATIENCE_SECONDS, lambda _: None) as db:
            lanes = known_lanes(db, topic)
            if incarnation in lanes:
                return lanes[incarnation]
            cut = any(same_topic(incarnation, known) for known in lanes)
            current = same_topic(incarnation, self._current(topic))
            if not lanes or cut or (current and topic not in self._raw_topics):
                return attach(db, topic, incarnation)
        if current:
            raise PermanentError(made_anew(topic))
        return None


def made_anew(topic: str) -> str:
    """Say what to do about a topic that was made anew."""
    return (
        f"topic {topic} was made anew: its offsets begin again, and the tables hold numbers of the"
        " one before. `shopstream reattach` goes on with the new one beside what is stored"
    )
