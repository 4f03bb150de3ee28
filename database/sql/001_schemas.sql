-- gold: business numbers. quality: what was refused and why. ops: how far the pipeline is.
CREATE SCHEMA IF NOT EXISTS gold;
CREATE SCHEMA IF NOT EXISTS quality;
CREATE SCHEMA IF NOT EXISTS ops;

CREATE TABLE IF NOT EXISTS ops.migrations (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Synthetic history has partition -1, what flows counted 0 and up. Views show both, unless the session says
-- SET shopstream.synthetic = off (or the connection's URL: ?options=-c%20shopstream.synthetic%3Doff).
CREATE OR REPLACE FUNCTION ops.shows_synthetic() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT current_setting('shopstream.synthetic', true) IS DISTINCT FROM 'off' $$;
