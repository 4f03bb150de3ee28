-- The writer runs the flows, the reader is Grafana's: it can change nothing and hold no query for long.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shopstream_writer') THEN
        CREATE ROLE shopstream_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shopstream_reader') THEN
        CREATE ROLE shopstream_reader NOLOGIN;
        ALTER ROLE shopstream_reader SET statement_timeout = '5s';
        ALTER ROLE shopstream_reader SET default_transaction_read_only = on;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN RAISE NOTICE 'roles are left to the administrator: no right to create them';
    WHEN duplicate_object OR unique_violation THEN NULL; -- made at this moment for another database
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'shopstream_writer') THEN
        GRANT USAGE ON SCHEMA gold, quality, ops TO shopstream_writer;
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA gold, quality, ops TO shopstream_writer;
        GRANT DELETE ON ops.changes, ops.thresholds TO shopstream_writer;
        GRANT EXECUTE ON FUNCTION ops.forget TO shopstream_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'shopstream_reader') THEN
        GRANT USAGE ON SCHEMA gold, quality, ops TO shopstream_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA gold, quality, ops TO shopstream_reader;
    END IF;
END
$$;
