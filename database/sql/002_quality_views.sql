-- Tables with the partition in their key lie under these views; partitions add up, and so do minutes to hours and days.
DO $$
DECLARE
    grain text;
    lies text;
BEGIN
    FOR grain, lies IN VALUES ('1m', '1m_by_partition'), ('1h', '1h_rows'), ('1d', '1d_rows') LOOP
        EXECUTE format('
            CREATE OR REPLACE VIEW quality.outcomes_%1$s AS
            SELECT window_start, flow, source_topic, outcome, code, sum(records)::bigint AS records
            FROM quality.outcomes_%2$s
            WHERE partition >= 0 OR ops.shows_synthetic()
            GROUP BY window_start, flow, source_topic, outcome, code', grain, lies);
        EXECUTE format('
            CREATE OR REPLACE VIEW quality.rules_%1$s AS
            SELECT window_start, rule, dimension, sum(checked)::bigint AS checked, sum(broken)::bigint AS broken
            FROM quality.rules_%2$s
            WHERE partition >= 0 OR ops.shows_synthetic()
            GROUP BY window_start, rule, dimension', grain, lies);
        -- A dimension''s score is passed / checked; without a check it is NULL, not 0.
        EXECUTE format('
            CREATE OR REPLACE VIEW quality.score_%1$s AS
            SELECT
                window_start,
                dimension,
                sum(checked - broken)::bigint AS passed,
                sum(checked)::bigint AS checked,
                sum(checked - broken)::double precision / nullif(sum(checked), 0) AS score
            FROM quality.rules_%2$s
            WHERE partition >= 0 OR ops.shows_synthetic()
            GROUP BY window_start, dimension', grain, lies);
        -- All dimensions weigh the same; those without a check do not take part.
        EXECUTE format('
            CREATE OR REPLACE VIEW quality.overall_%1$s AS
            SELECT window_start, avg(score) AS score
            FROM quality.score_%1$s
            GROUP BY window_start', grain);
    END LOOP;
END
$$;
