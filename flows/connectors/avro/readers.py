"""Read our own topics: clean events, dead letters, tallies. What cannot be read is refused, like
any other record.
"""

from __future__ import annotations

import json
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import WriterSchema, columns_of, frame_of, read_one
from flows.connectors.avro.encode import dead_letter_records
from flows.connectors.avro.schemas import Schema
from flows.connectors.kafka_sink import Records
from flows.domain.batch import Batch
from flows.domain.codes import Code
from flows.domain.counting import CleanEvents
from flows.domain.tables import DEAD_LETTERS, OUTCOMES, RULES, Rows, Table
from flows.domain.validate import printable

# the years 1 to 9999: what a Python client can say
OLDEST_TIME, NEWEST_TIME = -62_135_596_800_000, 253_402_300_799_999
MOST_KEY_BYTES = 2_000  # a btree of PostgreSQL takes 2,704 a row


def refusal(batch: Batch, row: int, topic: str, flow: str, code: Code) -> dict[str, Any]:
    """A dead letter for a record of one of our own topics that we could not read."""
    return {
        "source_topic": topic,
        "source_partition": int(batch.partition[row]),
        "source_offset": int(batch.offset[row]),
        "source_timestamp": min(max(int(batch.timestamp[row]), OLDEST_TIME), NEWEST_TIME),
        "source_key": batch.key[row].as_py(),
        "payload": batch.payload[row].as_py(),
        "flow": flow,
        "code": str(code),
        "violations": [
            {"rule": "RECORD_UNREADABLE", "field": "", "dimension": "validity", "value": None}
        ],
        "schema_fingerprint": None,
        "app_version": None,
        "attempt": 1,
    }


def code_of(value: bytes | None, known: dict[bytes, Schema]) -> Code:
    """Why a record that no fast path reads cannot be read."""
    if not value:
        return Code.EMPTY
    if value[:2] != schemas.SINGLE_OBJECT:
        return Code.BAD_MAGIC
    schema = known.get(value[:10])
    if schema is None:
        return Code.UNKNOWN_SCHEMA if len(value) >= 10 else Code.TRUNCATED
    found = read_one(value[10:], WriterSchema.of(schema, schema))
    return found if isinstance(found, Code) else Code.NOT_AVRO


def storable(table: Table, row: tuple[Any, ...]) -> bool:
    """Whether PostgreSQL takes the row, and any client can read it back."""
    key_bytes = 0
    for (name, kind), cell in zip(table.columns.items(), row, strict=True):
        if kind == "timestamptz" and not OLDEST_TIME <= cell <= NEWEST_TIME:
            return False
        if kind == "text" and cell is not None:
            if "\0" in cell:
                return False
            key_bytes += len(cell.encode()) if name in table.keys else 0
    return key_bytes <= MOST_KEY_BYTES


class CleanReader:
    """Clean events to columns, whether a record holds one event or a batch of them."""

    def __init__(self, topic: str, flow: str) -> None:
        self._topic = topic
        self._flow = flow
        events = [*schemas.published("clean_web_event"), schemas.load("clean_web_event")]
        batches = [*schemas.published("clean_web_batch"), schemas.load("clean_web_batch")]
        self._events = {s.header: s for s in events}
        self._known = self._events | {s.header: s for s in batches}
        self._refused: list[dict[str, Any]] = []
        self._codes: list[tuple[int, Code]] = []

    def read(self, batch: Batch) -> CleanEvents:
        """Decode a batch; what is refused waits for `unreadable`."""
        headers = pc.fill_null(pc.binary_slice(batch.payload, 0, 10), b"")
        parts = []
        for header in pc.unique(headers).to_pylist():
            rows = np.flatnonzero(pc.equal(headers, header).to_numpy(zero_copy_only=False))
            values = (
                [v[10:] for v in batch.payload.take(pa.array(rows)).to_pylist()]
                if header
                else [b""] * len(rows)
            )
            columns = columns_of(values, self._known[header]) if header in self._known else None
            if columns is not None:
                parts.append(self._part(header, columns, rows))
                continue
            for row, value in zip(rows.tolist(), values, strict=True):
                one = columns_of([value], self._known[header]) if header in self._known else None
                if one is not None:
                    parts.append(self._part(header, one, np.array([row])))
                else:
                    self._refuse(batch, row, code_of(batch.payload[row].as_py(), self._known))
        if not parts:
            return CleanEvents(batch, self._empty(), self._take_codes())
        events = parts[0] if len(parts) == 1 else pl.concat(parts).sort("row", maintain_order=True)
        foreign = self._foreign(events, batch)
        if foreign.any():
            for row in np.unique(events["row"].to_numpy()[foreign]).tolist():
                self._refuse(batch, row, Code.INVALID)
            events = events.filter(pl.Series(~foreign))
        return CleanEvents(batch, events, self._take_codes())

    def _take_codes(self) -> list[tuple[int, Code]]:
        taken, self._codes = self._codes, []
        return taken

    def _foreign(self, events: pl.DataFrame, batch: Batch) -> np.ndarray:
        """Events that clean never wrote: of another partition, or such as no table takes."""
        times = events["event_time"].to_physical().to_numpy()
        astray = events["source_partition"].to_numpy() != batch.partition[events["row"].to_numpy()]
        return astray | (times < OLDEST_TIME) | (times > NEWEST_TIME) | events["has_nul"].to_numpy()

    def _part(self, header: bytes, columns: pa.RecordBatch, rows: np.ndarray) -> pl.DataFrame:
        if header not in self._events:
            lists = columns.column("events")
            rows = rows[pc.list_parent_indices(lists).to_numpy()]
            columns = pa.RecordBatch.from_struct_array(lists.flatten())
        return frame_of(columns).with_columns(pl.Series("row", rows, pl.Int64))

    def _empty(self) -> pl.DataFrame:
        empty = pa.RecordBatch.from_pylist([], schema=schemas.load("clean_web_event").arrow())
        return frame_of(empty).with_columns(pl.Series("row", [], pl.Int64))

    def _refuse(self, batch: Batch, row: int, code: Code) -> None:
        self._codes.append((row, code))
        self._refused.append(refusal(batch, row, self._topic, self._flow, code))

    def unreadable(self, _: CleanEvents) -> Records:
        """Dead letters of what was refused since the last call."""
        refused, self._refused = self._refused, []
        return dead_letter_records(refused)


class RecordReader:
    """Records of few and small topics, one by one, to rows that wait until they are taken."""

    def __init__(self, topic: str, flow: str, *contracts: str) -> None:
        self._topic = topic
        self._flow = flow
        published = [
            s for name in contracts for s in (*schemas.published(name), schemas.load(name))
        ]
        self._known = {s.header: s for s in published}
        self._writers = {s.header: WriterSchema.of(s, s) for s in published}
        self._refused: list[dict[str, Any]] = []
        self._rows: dict[Table, list[tuple[Any, ...]]] = {}
        self.caught_up = True
        self.refused: list[Code] = []

    def read(self, batch: Batch) -> Self:
        """Decode a batch; rows wait for `take`, what is refused for `unreadable`, and `refused` has
        the codes.
        """
        self.caught_up, self.refused = batch.caught_up, []
        for row, value in enumerate(batch.payload.to_pylist()):
            writer = self._writers.get(value[:10]) if value else None
            event = read_one(value[10:], writer) if writer else code_of(value, self._known)
            if not isinstance(event, Code) and self._keep(event):
                continue
            code = event if isinstance(event, Code) else Code.INVALID
            self.refused.append(code)
            self._refuse(batch, row, code)
        return self

    def _refuse(self, batch: Batch, row: int, code: Code) -> None:
        self._refused.append(refusal(batch, row, self._topic, self._flow, code))

    def _keep(self, event: dict[str, Any]) -> bool:
        """Make a row of it; false when no table takes that."""
        raise NotImplementedError

    def _add(self, table: Table, row: tuple[Any, ...]) -> bool:
        if not storable(table, row):
            return False
        self._rows.setdefault(table, []).append(row)
        return True

    def unreadable(self, _: Self) -> Records:
        """Dead letters of what was refused since the last call."""
        refused, self._refused = self._refused, []
        return dead_letter_records(refused)

    def take(self) -> list[Rows]:
        """The rows since the last call."""
        taken, self._rows = self._rows, {}
        return [Rows(table, frame(table, rows)) for table, rows in taken.items()]


def frame(table: Table, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    kinds = {
        "timestamptz": pl.Int64,
        "text": pl.String,
        "jsonb": pl.String,
        "integer": pl.Int32,
        "bigint": pl.Int64,
        "bytea": pl.Binary,
    }
    made = pl.DataFrame(rows, schema={c: kinds[t] for c, t in table.columns.items()}, orient="row")
    times = [c for c, t in table.columns.items() if t == "timestamptz"]
    return made.with_columns(pl.col(times).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))


class DeadLetterReader(RecordReader):
    """Dead letters to rows; one that cannot be read becomes a row about itself."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic, "deadletters", "dead_letter")

    def _keep(self, event: dict[str, Any]) -> bool:
        texts = {k: printable(v, 1_000) for k, v in event.items() if isinstance(v, str)}
        violations = json.dumps(
            [{k: v and printable(v) for k, v in found.items()} for found in event["violations"]]
        )
        row = event | texts | {"violations": violations}
        return self._add(DEAD_LETTERS, tuple(row[c] for c in DEAD_LETTERS.columns))

    def _refuse(self, batch: Batch, row: int, code: Code) -> None:
        self._keep(refusal(batch, row, self._topic, self._flow, code))


class TallyReader(RecordReader):
    """Counts to rows."""

    def __init__(self, topic: str, flow: str) -> None:
        super().__init__(topic, flow, "outcome_tally", "rule_tally")

    def _keep(self, event: dict[str, Any]) -> bool:
        table = OUTCOMES if "outcome" in event else RULES
        row = event | {"partition": event["source_partition"]}
        return self._add(table, tuple(row[c] for c in table.columns))
