"""The three ways to COPY give the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from flows.connectors.binary_copy import HEADER, TRAILER
from flows.connectors.upserts import KINDS, UpsertStatements
from flows.domain.packed import PackedRows, Texts, packed
from flows.domain.tables import CHECKPOINTS, COUNTED, DEAD_LETTERS, GOLD, Rows, Table, TupleRows

TRAFFIC, SALES = GOLD["traffic_1m"], GOLD["sales_1m"]
TABLES = [*GOLD.values(), COUNTED, CHECKPOINTS, DEAD_LETTERS]
STATEMENTS = UpsertStatements(TABLES)
LONG = st.integers(-(2**63), 2**63 - 1)
TIME = st.integers(-62_135_596_800_000, 253_402_300_799_999)
VALUES = {
    "timestamptz": TIME,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": LONG,
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "jsonb": st.just('{"a": 1}'),
    "bytea": st.binary(max_size=9),
}


@st.composite
def rows_of(draw: st.DrawFn, table: Table) -> list[tuple[object, ...]]:
    """Rows with different keys."""
    cells = [
        VALUES[kind] if name in table.keys else st.none() | VALUES[kind]
        for name, kind in table.columns.items()
    ]
    keys = [list(table.columns).index(key) for key in table.keys]
    return draw(
        st.lists(st.tuples(*cells), max_size=6, unique_by=lambda row: tuple(row[i] for i in keys))
    )


def copied(rows: object) -> bytes:
    table: Table = rows.table  # type: ignore[attr-defined]
    data = STATEMENTS.staged({table: [rows]}).copy  # type: ignore[list-item]
    assert data.startswith(HEADER)
    assert data.endswith(TRAILER)
    return data


@given(
    st.sampled_from([COUNTED, CHECKPOINTS, DEAD_LETTERS]).flatmap(
        lambda table: st.tuples(st.just(table), rows_of(table))
    )
)
def test_tuples_are_copied_as_frames_are(example: tuple[Table, list[tuple[object, ...]]]) -> None:
    table, rows = example
    tuples = TupleRows(table, rows)
    assert copied(tuples) == copied(Rows(table, tuples.frame))


@given(
    st.sampled_from([TRAFFIC, SALES]).flatmap(
        lambda table: st.tuples(st.just(table), rows_of(table))
    )
)
def test_packed_rows_are_copied_as_frames_are(
    example: tuple[Table, list[tuple[object, ...]]],
) -> None:
    table, drawn = example
    rows = sorted(tuple(0 if cell is None else cell for cell in row) for row in drawn)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.columns)
    dimensions = len(table.keys)
    texts = [Texts(pl.Series(c, dtype=pl.String)) for c in columns[2:dimensions]]
    data, ends = packed(texts, np.arange(len(rows)))
    numbers = np.array(columns[dimensions:], np.int64).reshape(len(table.columns) - dimensions, -1)
    ours = PackedRows(
        table,
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int32),
        data,
        np.concatenate(([0], ends)).astype(np.int64),
        numbers,
    )
    assert copied(ours) == copied(Rows(table, ours.frame, distinct=True))
    assert ours.frame.equals(TupleRows(table, rows).frame)


def test_the_newest_row_of_a_key_is_copied_once() -> None:
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    rows = [(start, "metrics", "raw.web", p, n) for p, n in ((1, 4), (0, 5), (1, 9), (1, 7))]
    parts = [TupleRows(COUNTED, rows[:2]), TupleRows(COUNTED, rows[2:])]
    staged = STATEMENTS.staged({COUNTED: parts})
    assert staged.sent == {COUNTED.name: 2}
    newest = TupleRows(COUNTED, [rows[1], rows[2]])
    assert staged.copy == copied(Rows(COUNTED, newest.frame))
    assert KINDS["timestamptz"] == pl.Datetime("ms", "UTC")
