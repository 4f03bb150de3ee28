"""Compare what an engine counted with what our flows counted, every row of every table."""

from __future__ import annotations

from psycopg import sql

from bench.errors import BenchError
from bench.sandbox import Sandbox
from database.connection import connect
from flows.domain.metrics import MetricTable
from flows.domain.web.metrics import METRICS

SCHEMA = "peer"
SHOWN = 3


def create_tables(theirs: Sandbox) -> None:
    """Make the engine's tables, with one row where ours have one per partition."""
    with connect(theirs.settings.database_url, 30.0) as db:
        db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for table in METRICS:
            keys = [sql.Identifier(d.name) for d in table.by]
            columns = [
                *(sql.SQL("{} text").format(key) for key in keys),
                *(sql.SQL("{} bigint").format(sql.Identifier(m.name)) for m in table.stored),
            ]
            db.execute(
                sql.SQL(
                    "CREATE TABLE {} (window_start timestamptz, {}, PRIMARY KEY (window_start, {}))"
                ).format(
                    sql.Identifier(SCHEMA, table.name),
                    sql.SQL(", ").join(columns),
                    sql.SQL(", ").join(keys),
                )
            )


def compare_tables(ours: Sandbox, theirs: Sandbox) -> dict[str, int]:
    """Give the number of rows by table, which are the same on both sides.

    Errors: BenchError that shows the first rows that only one side has.
    """
    counts = {}
    for table in METRICS:
        mine, other = rows(ours, table, "gold"), rows(theirs, table, SCHEMA)
        if mine != other:
            raise BenchError(
                f"{table.name}: {len(mine - other)} rows are only ours, as"
                f" {sorted(mine - other)[:SHOWN]}; {len(other - mine)} only theirs, as"
                f" {sorted(other - mine)[:SHOWN]}"
            )
        counts[table.name] = len(mine)
    return counts


def rows(sandbox: Sandbox, table: MetricTable, schema: str) -> set[tuple[object, ...]]:
    """Read a table whole: its window, dimensions and counted measures."""
    names = ["window_start", *(d.name for d in table.by), *(m.name for m in table.stored)]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(schema, table.name)
    )
    with connect(sandbox.settings.database_url, 30.0) as db:
        return set(db.execute(query).fetchall())
