"""The tables that flows write: columns, keys, and when a row replaces the one that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import polars as pl

from flows.domain.families import CATALOGUE
from flows.domain.losses import Loss
from flows.domain.metrics import MetricTable


@dataclass(frozen=True, eq=False)
class Table:
    """A table that flows write.

    `columns` maps names to SQL types in the order of a row. A row whose `keys` are stored already
    replaces the stored one only when its `guard` column is higher; without a guard the first one
    stays. So writing the same rows again, or older ones, changes nothing. `stamp` is one more
    column: when the row was last written, by the database's clock. With TimescaleDB a table with a
    `chunk` is a hypertable by `window_start`, with chunks of that length.
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

    Shape: the frame has the table's columns. A key may repeat, then the row with the highest guard
    counts; with `distinct`, no key repeats.
    """

    table: Table
    frame: pl.DataFrame
    distinct: bool = False

    def __len__(self) -> int:
        return len(self.frame)


class AnyRows(Protocol):
    """Rows for a table, whatever holds them."""

    @property
    def table(self) -> Table:
        """Give the table."""

    @property
    def distinct(self) -> bool:
        """Say whether no key repeats."""

    @property
    def frame(self) -> pl.DataFrame:
        """Give the rows as a frame with the table's columns."""

    def __len__(self) -> int: ...


# The years 1 to 9999, which Python's datetime can express.
OLDEST_MS, NEWEST_MS = -62_135_596_800_000, 253_402_300_799_999
# A B-tree of PostgreSQL takes 2,704 bytes per row; the rest is for the key's columns that are no
# texts, and for what each column adds.
MOST_KEY_BYTES = 2_000

# The type of a column in a frame of Python values, by its SQL type.
_ROW_KINDS = {
    "timestamptz": pl.Int64,
    "text": pl.String,
    "jsonb": pl.String,
    "integer": pl.Int32,
    "bigint": pl.Int64,
    "bytea": pl.Binary,
}


def storable(table: Table, row: tuple[Any, ...]) -> bool:
    """Say whether PostgreSQL takes the row, and every client can read it back.

    Shape: a value per column of the table, times in Unix milliseconds.
    """
    key_bytes = 0
    for (name, kind), cell in zip(table.columns.items(), row, strict=True):
        if kind == "timestamptz" and not OLDEST_MS <= cell <= NEWEST_MS:
            return False
        if kind == "text" and cell is not None:
            if "\0" in cell:
                return False
            key_bytes += len(cell.encode()) if name in table.keys else 0
    return key_bytes <= MOST_KEY_BYTES


@dataclass(frozen=True)
class TupleRows:
    """Rows of Python values, where they are few: a value per column, times in Unix milliseconds."""

    table: Table
    rows: Sequence[tuple[Any, ...]]
    distinct: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frame(self) -> pl.DataFrame:
        """Give the rows as a frame with the table's columns."""
        kinds = {name: _ROW_KINDS[kind] for name, kind in self.table.columns.items()}
        times = [name for name, kind in self.table.columns.items() if kind == "timestamptz"]
        frame = pl.DataFrame(self.rows, schema=kinds, orient="row")
        return frame.with_columns(pl.col(times).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))


# A day of minutes: retention drops whole days, and a panel of some hours reads one chunk or two. At
# 8 events/s a day takes 180 MB with its indexes (docs/adr/004).
CHUNK_1M = timedelta(days=1)


def gold(metric: MetricTable) -> Table:
    """Derive the table that stores the rows of a metric.

    The partition is in the key, because partitions are counted apart; the number of events is the
    guard, because rows hold absolute numbers and only grow.
    """
    keys = {"window_start": "timestamptz", "partition": "integer"} | {
        d.name: "text" for d in metric.by
    }
    values = {"events": "bigint"} | {m.name: "bigint" for m in metric.stored}
    return Table(
        f"gold.{metric.name}_by_partition", keys | values, tuple(keys), "events", chunk=CHUNK_1M
    )


GOLD = {metric.name: gold(metric) for metric in CATALOGUE}


def gold_of(metric: MetricTable) -> Table:
    """Give the table of a metric, whether the catalogue has it or not."""
    return GOLD.get(metric.name) or gold(metric)


PROGRESS = Table(
    "ops.progress",
    {
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "source_offset": "bigint",
        "watermark": "timestamptz",
        "accepted": "bigint",
    },
    ("flow", "source_topic", "partition"),
    "source_offset",
    stamp="updated_at",
)

# How many events of each minute are in gold: few rows, so that their sum over all time is cheap to
# hold against what clean accepted.
COUNTED = Table(
    "ops.counted_1m",
    {
        "window_start": "timestamptz",
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "events": "bigint",
    },
    ("window_start", "flow", "source_topic", "partition"),
    "events",
    chunk=timedelta(days=30),
)

# Where a flow stands, written in the transaction of its rows: so a restored database says itself
# from where it must be filled again. A topic that is made anew begins anew.
CHECKPOINTS = Table(
    "ops.checkpoints",
    {
        "flow": "text",
        "topic": "text",
        "topic_id": "text",
        "partition": "integer",
        "resume": "bigint",
        "rewind": "bigint",
        "note": "jsonb",
    },
    ("flow", "topic", "topic_id", "partition"),
    "resume",
    stamp="written_at",
)

# The ledger of losses: records that were gone before a flow had read them, up to before
# `to_offset`.
LOSSES = Table(
    "ops.losses",
    {
        "flow": "text",
        "topic": "text",
        "partition": "integer",
        "from_offset": "bigint",
        "to_offset": "bigint",
        "records": "bigint",
        "why": "text",
    },
    ("flow", "topic", "partition", "from_offset", "why"),
    "records",
    stamp="found_at",
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

OFFSETS = Table(
    "quality.offsets_1m_by_partition",
    {
        "window_start": "timestamptz",
        "flow": "text",
        "source_topic": "text",
        "partition": "integer",
        "offsets": "bigint",
        "control": "bigint",
        "lost": "bigint",
        "accepted": "bigint",
    },
    ("window_start", "flow", "source_topic", "partition"),
    "offsets",
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
        "event_type": "text",
        "amount_minor": "bigint",
        "amount_currency": "text",
    },
    ("source_topic", "source_partition", "source_offset", "flow", "attempt"),
    None,
)

# Tables that are not summed up to hours and days.
OTHER_TABLES = (DEAD_LETTERS, PROGRESS, COUNTED, CHECKPOINTS, LOSSES, OFFSETS)


def loss_rows(flow: str, losses: Sequence[Loss]) -> TupleRows:
    """Make the rows of the ledger that tell of losses."""
    return TupleRows(
        LOSSES,
        [
            (flow, loss.topic, loss.partition, loss.start, loss.end, loss.records, str(loss.cause))
            for loss in losses
        ],
    )
