"""Migrations and upserts on a real database: what the catalogue says is there, and rows only move
forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from database.editions import Edition
from database.migrate import TABLES, migrate
from flows.connectors import upserter
from flows.connectors.observers import NULL_OBSERVER
from flows.connectors.timescale import Writer
from flows.connectors.upserts import KINDS, UpsertStatements
from flows.domain.errors import PermanentError
from flows.domain.families import CATALOGUE
from flows.domain.rollups import ROLLUPS, Grain, rolled
from flows.domain.tables import GOLD, PROGRESS, Rows, Table
from shopstream.demo.dev_services import Services
from tests.support.databases import Database, new_database

SQL_NAMES = {"timestamptz": "timestamp with time zone"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def migrated(services: Services) -> Iterator[Database]:
    """A migrated database that no test changes."""
    with new_database(services) as copied:
        yield copied


@pytest.fixture
def database(services: Services) -> Iterator[Database]:
    """A migrated database of one test."""
    with new_database(services) as copied:
        yield copied


def columns_of(database: Database, name: str) -> dict[str, str]:
    schema, table = name.split(".")
    rows = database.query(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND"
        " table_name = %s ORDER BY ordinal_position",
        schema,
        table,
    )
    return dict(rows)


def everything(database: Database) -> list[tuple[Any, ...]]:
    """All that a migration could change."""
    return database.query(
        "SELECT table_schema, table_name, column_name, data_type, column_default, is_nullable FROM"
        " information_schema.columns WHERE table_schema IN ('gold', 'quality', 'ops') ORDER BY 1,"
        " 2, 3"
    )


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = everything(database)
    again = migrate(database.url)
    assert again.applied == []
    assert everything(database) == before


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_a_table_has_the_columns_and_the_key_of_the_catalogue(
    migrated: Database, table: Table
) -> None:
    stamps = {} if table.stamp is None else {table.stamp: "timestamptz"}
    assert columns_of(migrated, table.name) == {
        c: SQL_NAMES.get(t, t) for c, t in (table.columns | stamps).items()
    }
    keys = migrated.query(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND"
        " a.attnum = ANY (i.indkey) WHERE i.indrelid = %s::regclass AND i.indisprimary",
        table.name,
    )
    assert {key for (key,) in keys} == set(table.keys)


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda m: m.name)
def test_a_view_has_the_columns_of_the_catalogue(migrated: Database, metric: Any) -> None:
    expected = {"window_start": SQL_NAMES["timestamptz"]} | {d.name: "text" for d in metric.by}
    assert columns_of(migrated, f"gold.{metric.name}") == expected | {
        m.name: "bigint" for m in metric.measures
    }


@pytest.mark.parametrize("grain", [Grain.HOUR, Grain.DAY])
@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda m: m.name)
def test_a_rollup_has_the_columns_of_its_minutes_but_the_distinct_ones(
    migrated: Database, metric: Any, grain: Grain
) -> None:
    minutes = columns_of(migrated, f"gold.{metric.name}")
    minutes.pop("visitors", None)
    assert columns_of(migrated, f"gold.{rolled(metric, grain).name}") == minutes


@pytest.mark.parametrize("grain", ["1m", "1h", "1d"])
def test_the_views_of_quality_have_their_columns(migrated: Database, grain: str) -> None:
    expected = {
        "outcomes": ["window_start", "flow", "source_topic", "outcome", "code", "records"],
        "rules": ["window_start", "rule", "dimension", "checked", "broken"],
        "score": ["window_start", "dimension", "passed", "checked", "score"],
        "overall": ["window_start", "score"],
    }
    assert {
        name: list(columns_of(migrated, f"quality.{name}_{grain}")) for name in expected
    } == expected


def test_a_column_that_a_new_measure_brings_is_added(database: Database) -> None:
    database.execute(
        "DROP VIEW gold.orders_1m; ALTER TABLE gold.orders_1m_by_partition DROP COLUMN refunds"
    )
    migrate(database.url)
    assert "refunds" in columns_of(database, "gold.orders_1m")


def test_a_view_with_moved_columns_is_made_anew(database: Database) -> None:
    database.execute(
        "DROP VIEW gold.searches_1m; CREATE VIEW gold.searches_1m AS SELECT 1 AS other"
    )
    migrate(database.url)
    assert "zero_results" in columns_of(database, "gold.searches_1m")


@pytest.mark.services
def test_timescale_makes_hypertables(database: Database) -> None:
    assert migrate(database.url).edition is not Edition.NONE
    widths = dict(
        database.query(
            "SELECT hypertable_schema || '.' || hypertable_name, time_interval FROM"
            " timescaledb_information.dimensions"
        )
    )
    assert widths == {table.name: table.chunk for table in TABLES if table.chunk is not None}
    assert widths.keys() >= {table.name for table in (*GOLD.values(), *(r.table for r in ROLLUPS))}


def test_every_edition_buckets_time(migrated: Database) -> None:
    assert migrated.query(
        "SELECT time_bucket('5 minutes'::interval, '2026-03-01 12:07+00'::timestamptz)"
    ) == [(datetime(2026, 3, 1, 12, 5, tzinfo=UTC),)]


class Item:
    """What a sink gets from a flow."""

    caught_up = True

    def __init__(self, *rows: Rows) -> None:
        self.rows = rows


def write(writer: Writer, item: Item) -> None:
    writer.write_batch([item])
    writer.flush()


def searches(query: str, events: int) -> Rows:
    table = GOLD["searches_1m"]
    row = (NOON, 0, "main", query, events, events, 0)
    frame = pl.DataFrame([row], schema=list(table.columns), orient="row").with_columns(
        pl.col("partition").cast(pl.Int32), pl.col("window_start").cast(pl.Datetime("ms", "UTC"))
    )
    return Rows(table, frame)


@pytest.fixture
def writer(database: Database) -> Any:
    opened = Writer(
        upserter.Database(database.url, 10.0, 0.0),
        UpsertStatements([*GOLD.values(), PROGRESS]),
        lambda: False,
        NULL_OBSERVER,
        None,
    )
    yield opened
    opened.close()


def stored(database: Database) -> dict[str, int]:
    return dict(database.query("SELECT query, searches FROM gold.searches_1m"))


def test_a_row_only_moves_forward(database: Database, writer: Writer) -> None:
    for events in (5, 3, 5, 7, 6):
        write(writer, Item(searches("shoes", events)))
    assert stored(database) == {"shoes": 7}


def test_a_transaction_that_was_rolled_back_leaves_the_next_flush_its_statements(
    database: Database,
) -> None:
    with closing(
        Writer(
            upserter.Database(database.url, 10.0, 0.0),
            UpsertStatements([PROGRESS]),
            lambda: False,
            NULL_OBSERVER,
            None,
        )
    ) as writer:
        for offset in range(12):  # often enough for a client that prepares what is repeated
            write(writer, Item(progress(offset)))
        assert writer._upserter._db is not None
        with (
            pytest.raises(ZeroDivisionError),
            writer._upserter._db.transaction(),
        ):  # as after a deadlock: the connection stays
            raise ZeroDivisionError
        write(writer, Item(progress(20)))
    assert database.query("SELECT source_offset FROM ops.progress") == [(20,)]


def test_the_newest_of_one_flush_is_stored(database: Database, writer: Writer) -> None:
    write(
        writer,
        Item(searches("shoes", 2), searches("shoes", 9), searches("shoes", 4), searches("hats", 1)),
    )
    assert stored(database) == {"shoes": 9, "hats": 1}


def test_a_cut_connection_is_made_again_and_nothing_is_lost(
    database: Database, writer: Writer
) -> None:
    for events in (1, 2, 3):
        with database.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'shopstream'"
                " AND pid <> pg_backend_pid()"
            )
        write(writer, Item(searches("shoes", events)))
    assert stored(database) == {"shoes": 3}


def progress(offset: int) -> Rows:
    schema = {name: KINDS[kind] for name, kind in PROGRESS.columns.items()}
    return Rows(
        PROGRESS, pl.DataFrame([("metrics", "raw.web", 0, offset, NOON, 1)], schema, orient="row")
    )


def test_progress_says_when_it_was_last_made(database: Database, writer: Writer) -> None:
    stamps = []
    for offset in (5, 5, 6):
        write(writer, Item(progress(offset)))
        stamps += database.query(
            "SELECT updated_at, updated_at > now() - interval '1 minute' FROM ops.progress"
        )
    assert [fresh for _, fresh in stamps] == [True] * 3
    assert stamps[0] == stamps[1], "nothing was made"
    assert stamps[1] < stamps[2]


def test_a_flush_does_not_hold_the_flow(database: Database, writer: Writer) -> None:
    with database.connect() as other:
        other.autocommit = False
        other.execute("LOCK TABLE gold.searches_1m_by_partition IN ACCESS EXCLUSIVE MODE")
        writer.write_batch([Item(searches("shoes", 1))])  # comes back although its rows cannot
        writer.write_batch([Item(searches("shoes", 2))])
        writer.snapshot()
        assert not writer.is_waiting
        other.rollback()
    writer.flush()
    assert stored(database) == {"shoes": 2}


def test_what_a_flush_beside_the_flow_runs_into_ends_the_flow(
    database: Database, writer: Writer
) -> None:
    database.execute("DROP VIEW gold.searches_1m; DROP TABLE gold.searches_1m_by_partition CASCADE")
    writer.write_batch([Item(searches("shoes", 1))])
    with pytest.raises(PermanentError, match="searches_1m_by_partition"):
        writer.flush()
