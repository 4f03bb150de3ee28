"""What differs between plain PostgreSQL, TimescaleDB's Apache edition and the full one. Keys and
queries do not.
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

# far beyond any lateness: changing a compressed row costs ten to a hundred times as much
COMPRESS_AFTER = timedelta(days=7)


class Edition(StrEnum):
    """What the server can do: plain PostgreSQL, TimescaleDB's Apache edition, or the full one."""

    NONE = "none"
    APACHE = "apache"
    TIMESCALE = "timescale"


def edition_of(db: psycopg.Connection) -> Edition:
    """Detect the edition, and create the extension where it is installed but not yet in this
    database.
    """
    found = db.execute(
        "SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if found is None:
        return Edition.NONE
    if found[0] is None:
        try:
            db.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg.Error as error:
            log.extension_unusable(reason(error))
            return Edition.NONE
    licence = db.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return Edition.APACHE if licence and licence[0] == "apache" else Edition.TIMESCALE


def make_hypertable(db: psycopg.Connection, table: str, width: timedelta) -> None:
    """Make a hypertable of a table; one that has chunks of another width keeps them, and makes new
    ones of this width.
    """
    db.execute(
        "SELECT create_hypertable(%s::regclass, by_range('window_start', %s), if_not_exists =>"
        " true, migrate_data => true, create_default_indexes => false)",
        (table, width),
    )
    db.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, width))


def create_bucket(db: psycopg.Connection) -> None:
    """TimescaleDB's time_bucket for a server without it, so that every panel works; weeks start on
    the same Monday.
    """
    db.execute(
        "CREATE OR REPLACE FUNCTION public.time_bucket(width interval, moment timestamptz) RETURNS"
        " timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT date_bin(width, moment,"
        " TIMESTAMPTZ '2000-01-03 00:00:00+00') $$"
    )


def create_forget(db: psycopg.Connection, edition: Edition, tables: Iterable[Table]) -> None:
    """What retention calls: forget a table's rows before a moment, and say in words what went.

    Dropping a chunk needs its owner, and flows run as the writer: the function runs as the owner,
    on our tables alone.
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
    how = (
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
                {how}
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
    """Let the full edition compress chunks that change no more. Not tried by any test: the edition
    is not at hand.

    So a refusal is said and nothing more: everything works without compression.
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
