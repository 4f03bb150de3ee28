"""The tables that flows write: columns, keys, and when a row replaces the one that is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from flows.domain.metrics import CATALOGUE, MetricTable


@dataclass(frozen=True, eq=False)
class Table:
    """A table of ours.

    `columns` maps names to SQL types in the order of a row. A row whose `keys` are stored replaces
    the stored one only when its `guard` column is higher; without a guard the first one stays. So
    writing the same rows again, or older ones, changes nothing. `stamp` is one more column: when
    the row was last written, by the database's clock. With TimescaleDB a table with a `chunk` is a
    hypertable of chunks that long, by `window_start`.
    """

    name: str
    columns: dict[str, str]
    keys: tuple[str, ...]
    guard: str | None
    stamp: str | None = None
    chunk: timedelta | None = None


@dataclass(frozen=True)
class Rows:
    """Rows for a table.

    Shape: the frame has the table's columns; keys may repeat, the highest guard counts, unless
    `distinct` says that none does.
    """

    table: Table
    frame: pl.DataFrame
    distinct: bool = False


# A day of minutes: retention drops whole days, and a screen of some hours touches one chunk or two.
# See docs/adr/004.
CHUNK_1M = timedelta(days=1)


def gold(metric: MetricTable) -> Table:
    """Where the rows of a metric are stored: with the partition in the key, and the number of
    events as guard.
    """
    keys = {"window_start": "timestamptz", "partition": "integer"} | {
        d.name: "text" for d in metric.by
    }
    values = {"events": "bigint"} | {m.name: "bigint" for m in metric.stored}
    return Table(
        f"gold.{metric.name}_by_partition", keys | values, tuple(keys), "events", chunk=CHUNK_1M
    )


GOLD = {metric.name: gold(metric) for metric in CATALOGUE}

PROGRESS = Table(
    "ops.progress",
    {
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "source_offset": "bigint",
        "watermark": "timestamptz",
    },
    ("flow", "source_topic", "partition"),
    "source_offset",
    stamp="updated_at",
)

OUTCOMES = Table(
    "quality.outcomes_1m_by_partition",
    {
        "window_start": "timestamptz",
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "outcome": "text",
        "code": "text",
        "records": "bigint",
    },
    ("window_start", "flow", "source_topic", "partition", "outcome", "code"),
    "records",
    chunk=CHUNK_1M,
)

RULES = Table(
    "quality.rules_1m_by_partition",
    {
        "window_start": "timestamptz",
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "rule": "text",
        "dimension": "text",
        "checked": "bigint",
        "broken": "bigint",
    },
    ("window_start", "flow", "source_topic", "partition", "rule"),
    "checked",
    chunk=CHUNK_1M,
)

DEAD_LETTERS = Table(
    "quality.dead_letters",
    {
        "source_topic": "text",
        "source_partition": "integer",
        "source_offset": "bigint",
        "source_timestamp": "timestamptz",
        "source_key": "bytea",
        "payload": "bytea",
        "flow": "text",
        "code": "text",
        "violations": "jsonb",
        "schema_fingerprint": "text",
        "app_version": "text",
        "attempt": "integer",
    },
    ("source_topic", "source_partition", "source_offset", "flow", "attempt"),
    None,
)
