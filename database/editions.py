"""What differs between plain PostgreSQL, TimescaleDB's Apache edition and the full one.

Keys and queries are the same in all three.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum

import psycopg
from psycopg import sql

from database import log
from flows.connectors.postgres import identifier, reason
from flows.domain.tables import DEAD_LETTERS, Table

# far beyond any allowed lateness: changing a compressed row costs ten to a hundred times as much
COMPRESS_AFTER = timedelta(days=7)


class Edition(StrEnum):
    """What the server can do: plain PostgreSQL, TimescaleDB's Apache edition, or the full one."""

    NONE = "none"
    APACHE = "apache"
    TIMESCALE = "timescale"


def edition_of(db: psycopg.Connection) -> Edition:
    """Detect the edition, and create the extension where it is installed but not used yet."""
    extension = db.execute(
        "SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if extension is None:
        return Edition.NONE
    if extension[0] is None:
        try:
            db.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg.Error as error:
            log.extension_unusable(reason(error))
            return Edition.NONE
    licence = db.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return Edition.APACHE if licence and licence[0] == "apache" else Edition.TIMESCALE


def make_hypertable(db: psycopg.Connection, table: str, width: timedelta) -> None:
    """Make a hypertable of a table, or change the width of the chunks that it makes from now on."""
    db.execute(
        "SELECT create_hypertable(%s::regclass, by_range('window_start', %s), if_not_exists =>"
        " true, migrate_data => true, create_default_indexes => false)",
        (table, width),
    )
    db.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, width))


def create_time_bucket(db: psycopg.Connection) -> None:
    """Create a time_bucket for a server without TimescaleDB, so that every panel works there.

    Time: weeks begin at the Monday from which TimescaleDB counts.
    """
    db.execute(
        "CREATE OR REPLACE FUNCTION public.time_bucket(width interval, moment timestamptz) RETURNS"
        " timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT date_bin(width, moment,"
        " TIMESTAMPTZ '2000-01-03 00:00:00+00') $$"
    )


def create_retention_function(
    db: psycopg.Connection, edition: Edition, tables: Iterable[Table]
) -> None:
    """Create ops.forget, which drops a table's rows before a moment and says how many.

    Dropping a chunk is a right of its owner, and flows run as the writer: so the function runs as
    its owner, and accepts no table but ours.
    """
    timed = [t.name for t in tables if t.chunk is not None]
    chunks = (
        "SELECT count(*) INTO gone FROM @extschema@.drop_chunks(name::regclass, older_than =>"
        " before); unit := 'chunks';"
    )
    rows = (
        "EXECUTE format('DELETE FROM %s WHERE window_start < $1', name::regclass) USING before; GET"
        " DIAGNOSTICS gone = ROW_COUNT;"
    )
    schema = db.execute(
        "SELECT quote_ident(n.nspname) FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid ="
        " e.extnamespace WHERE e.extname = 'timescaledb'"
    ).fetchone()
    drop_timed = (
        rows
        if edition is Edition.NONE or schema is None
        else chunks.replace("@extschema@", schema[0])
    )
    body = f"""
        DECLARE
            gone bigint;
            unit text := 'rows';
        BEGIN
            IF name = '{DEAD_LETTERS.name}' THEN
                DELETE FROM {DEAD_LETTERS.name} WHERE source_timestamp < before;
                GET DIAGNOSTICS gone = ROW_COUNT;
            ELSIF name = ANY (ARRAY[{", ".join(f"'{name}'" for name in timed)}]) THEN
                {drop_timed}
            ELSE
                RAISE EXCEPTION '% is no table that anything is forgotten of', name;
            END IF;
            RETURN CASE WHEN gone > 0 THEN concat(gone, ' ', unit) END;
        END
    """
    db.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION ops.forget(name text, before timestamptz) RETURNS text"
            " LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {}"
        ).format(sql.Literal(body))
    )
    db.execute("REVOKE ALL ON FUNCTION ops.forget FROM PUBLIC")


def compress(db: psycopg.Connection, table: Table) -> None:
    """Let the full edition compress chunks that change no more.

    No test runs this: the packages that the tests use are of the Apache edition. A refusal is
    logged and no more, since everything works without compression.
    """
    segments = [k for k in ("partition", "shop_id", "flow") if k in table.keys]
    try:
        with db.transaction():
            db.execute(
                sql.SQL(
                    "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = {},"
                    " timescaledb.compress_orderby = 'window_start')"
                ).format(identifier(table.name), sql.Literal(", ".join(segments)))
            )
            db.execute(
                "SELECT add_compression_policy(%s::regclass, %s::interval, if_not_exists => true)",
                (table.name, COMPRESS_AFTER),
            )
    except psycopg.Error as error:
        log.not_compressed(table.name, reason(error))
