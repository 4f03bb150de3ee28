-- Which hours of a table of minutes changed, written in the transaction of the rows that changed them: what the roll-up
-- job has to look at. One row a connection, so that no flow waits for another; `changed_by` is the last transaction.
CREATE TABLE IF NOT EXISTS ops.changes (
    source text NOT NULL,
    hour timestamptz NOT NULL,
    writer integer NOT NULL DEFAULT pg_backend_pid(),
    changed_by xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (source, hour, writer)
) WITH (fillfactor = 20);

-- When a job last did its work, and what it did.
CREATE TABLE IF NOT EXISTS ops.jobs (
    job text PRIMARY KEY,
    finished_at timestamptz NOT NULL,
    took_seconds double precision NOT NULL,
    said text NOT NULL
);

-- Rows of a table before this moment may have been dropped: nothing is summed up from what is left of them.
CREATE TABLE IF NOT EXISTS ops.sealed (
    table_name text PRIMARY KEY,
    before timestamptz NOT NULL
);

-- Changes that came when their window was sealed: they are in no roll-up.
CREATE TABLE IF NOT EXISTS ops.sealed_changes (
    source text NOT NULL,
    window_start timestamptz NOT NULL,
    times bigint NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, window_start)
);

-- What people call the products, for boards.
CREATE TABLE IF NOT EXISTS gold.product_names (
    product_id text PRIMARY KEY,
    name text NOT NULL
);

CREATE OR REPLACE FUNCTION gold.product_name(of_product text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce((SELECT name FROM gold.product_names WHERE product_id = of_product), '-')
$$;

-- Limits of alerts that differ from those that the alerts come with: for all (shop_id ''), or for one shop.
CREATE TABLE IF NOT EXISTS ops.thresholds (
    name text NOT NULL,
    shop_id text NOT NULL DEFAULT '',
    act double precision NOT NULL CHECK (act > '-Infinity' AND act < 'Infinity'),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, shop_id)
);

CREATE OR REPLACE FUNCTION ops.threshold(of_name text, of_shop text, otherwise double precision) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT act FROM ops.thresholds WHERE name = of_name AND shop_id = of_shop),
        (SELECT act FROM ops.thresholds WHERE name = of_name AND shop_id = ''),
        otherwise)
$$;

-- What a dashboard marks on its time axis.
CREATE TABLE IF NOT EXISTS ops.annotations (
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    time_end timestamptz,
    kind text NOT NULL CHECK (kind IN ('deployment', 'restart', 'replay', 'schema', 'synthetic')),
    title text NOT NULL,
    text text NOT NULL DEFAULT '',
    tags text[] NOT NULL DEFAULT '{}',
    CHECK (time_end >= time)
);
CREATE INDEX IF NOT EXISTS annotations_by_time ON ops.annotations (time);

-- Retention and the boards ask for letters by time.
CREATE INDEX IF NOT EXISTS dead_letters_by_time ON quality.dead_letters (source_timestamp);
CREATE INDEX IF NOT EXISTS refused_purchases_by_time ON quality.dead_letters (source_timestamp) WHERE event_type = 'PURCHASE';
