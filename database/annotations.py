"""What dashboards mark on their time axis: deployments, restarts, replays, schema changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import psycopg

# enough to recognise a migration by; its text is shown in a tooltip
NAMES_SHOWN = 12


class Kind(StrEnum):
    """What happened; the check constraint of ops.annotations lists the same."""

    DEPLOYMENT = "deployment"
    RESTART = "restart"
    REPLAY = "replay"
    SCHEMA = "schema"
    SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Annotation:
    """A moment on the time axis, or with an `end` a stretch of time.

    Time: when it happened, by the clock of whoever writes it.
    """

    kind: Kind
    title: str
    text: str = ""
    tags: tuple[str, ...] = ()
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    end: datetime | None = None


def annotate(db: psycopg.Connection, annotation: Annotation) -> None:
    """Store an annotation."""
    db.execute(
        "INSERT INTO ops.annotations (time, time_end, kind, title, text, tags)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (
            annotation.time,
            annotation.end,
            annotation.kind,
            annotation.title,
            annotation.text,
            list(annotation.tags),
        ),
    )


def columns_of(db: psycopg.Connection) -> set[str]:
    """List every column of our tables and views, as `schema.table.column`."""
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
    """Describe what a migration changed, or give None where it changed no column."""
    if before == after:
        return None
    if not before:
        return Annotation(Kind.SCHEMA, "schema made", f"{len(after)} columns")
    parts = [
        f"{word} {_listed(names)}"
        for word, names in (("new:", after - before), ("gone:", before - after))
        if names
    ]
    return Annotation(Kind.SCHEMA, "schema changed", "; ".join(parts))


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    hidden = len(ordered) - NAMES_SHOWN
    return ", ".join(ordered[:NAMES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")
