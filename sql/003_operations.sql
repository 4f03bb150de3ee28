-- Which hours of a table of minutes changed, written with the rows that changed them. The roll-up job takes them away.
-- Marks are only ever added and taken, so that no flow waits for the job.
CREATE TABLE IF NOT EXISTS ops.changes (
    source text NOT NULL,
    hour timestamptz NOT NULL,
    marked_at timestamptz NOT NULL DEFAULT clock_timestamp()
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
