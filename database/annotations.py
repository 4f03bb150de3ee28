"""What dashboards mark on their time axis: deployments, restarts, replays, changes of the schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import psycopg

SHOWN = 12


class Kind(StrEnum):
    """What happened; the table knows no other."""

    DEPLOYMENT = "deployment"
    RESTART = "restart"
    REPLAY = "replay"
    SCHEMA = "schema"
    SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Annotation:
    """A moment, or with an `end` a stretch of time. Time: when it happened, by the clock of who
    tells it.
    """

    kind: Kind
    title: str
    text: str = ""
    tags: tuple[str, ...] = ()
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    end: datetime | None = None


def annotate(db: psycopg.Connection, one: Annotation) -> None:
    db.execute(
        "INSERT INTO ops.annotations (time, time_end, kind, title, text, tags) VALUES (%s, %s, %s,"
        " %s, %s, %s)",
        (one.time, one.end, one.kind, one.title, one.text, list(one.tags)),
    )


def columns_of(db: psycopg.Connection) -> set[str]:
    """Every column of our tables and views, as `schema.table.column`."""
    return {
        name
        for (name,) in db.execute(
            "SELECT concat_ws('.', n.nspname, c.relname, a.attname) FROM pg_namespace AS n"
            " JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'v')"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE n.nspname IN ('gold', 'quality', 'ops')"
        )
    }


def schema_change(before: set[str], after: set[str]) -> Annotation | None:
    """What a migration did, if it did anything."""
    if before == after:
        return None
    if not before:
        return Annotation(Kind.SCHEMA, "schema made", f"{len(after)} columns")
    parts = [
        f"{word} {listed(names)}"
        for word, names in (("new:", after - before), ("gone:", before - after))
        if names
    ]
    return Annotation(Kind.SCHEMA, "schema changed", "; ".join(parts))


def listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
