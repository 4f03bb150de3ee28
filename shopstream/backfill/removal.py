"""Remove synthetic rows, and give back the disk space that they took."""

from __future__ import annotations

import psycopg
from psycopg import sql

from database.annotations import Kind
from database.rollup import job_lock
from flows.connectors.postgres import identifier
from flows.domain.rollups import BY_GRAIN, SYNTHETIC

# on every annotation that goes with the rows
SYNTHETIC_TAG = "synthetic"
# a chunk that flows may be writing to is not dropped, even when only synthetic rows are in it yet
OLD_CHUNKS = (
    "SELECT format('%%I.%%I', chunk_schema, chunk_name), range_start, range_end FROM"
    " timescaledb_information.chunks WHERE format('%%I.%%I', hypertable_schema, hypertable_name) ="
    " %s AND range_end < now() - interval '1 day' ORDER BY range_start"
)


def remove(db: psycopg.Connection) -> int:
    """Remove every synthetic row and annotation; gives how many rows went.

    Rows that flows counted stay, in the same windows too. The connection must be in autocommit, and
    that of the owner of the tables.
    """
    with job_lock(db):
        if (
            db.execute("SELECT FROM ops.annotations WHERE kind = %s", (Kind.SYNTHETIC,)).fetchone()
            is None
        ):
            return 0
        removed = 0
        for table in (table.name for tables in BY_GRAIN.values() for table in tables):
            removed += drop_chunks(db, table) + delete_rows(db, table)
        db.execute("DELETE FROM ops.annotations WHERE %s = ANY (tags)", (SYNTHETIC_TAG,))
    return removed


def drop_chunks(db: psycopg.Connection, table: str) -> int:
    """Drop the old chunks that hold only synthetic rows, where TimescaleDB is there."""
    if db.execute("SELECT to_regclass('timescaledb_information.chunks')").fetchone() == (None,):
        return 0
    removed = 0
    for chunk, start, end in db.execute(OLD_CHUNKS, (table,)).fetchall():
        with db.transaction():
            db.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.SQL(chunk)))
            counts = db.execute(
                sql.SQL("SELECT count(*), count(*) FILTER (WHERE partition = {}) FROM {}").format(
                    SYNTHETIC, sql.SQL(chunk)
                )
            ).fetchone()
            if counts is not None and counts[0] == counts[1]:
                db.execute(
                    "SELECT drop_chunks(%s::regclass, older_than => %s, newer_than => %s)",
                    (table, end, start),
                )
                removed += counts[0]
    return removed


def delete_rows(db: psycopg.Connection, table: str) -> int:
    """Delete what is left, and give the disk space back without waiting for autovacuum."""
    name = identifier(table)
    removed = db.execute(
        sql.SQL("DELETE FROM {} WHERE partition = {}").format(name, SYNTHETIC)
    ).rowcount
    if removed:
        db.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))
    return removed
