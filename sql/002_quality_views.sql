-- Tables with the partition in their key lie under these views; partitions add up.
CREATE OR REPLACE VIEW quality.outcomes_1m AS
SELECT window_start, flow, source_topic, outcome, code, sum(records)::bigint AS records
FROM quality.outcomes_1m_by_partition
GROUP BY window_start, flow, source_topic, outcome, code;

CREATE OR REPLACE VIEW quality.rules_1m AS
SELECT window_start, rule, dimension, sum(checked)::bigint AS checked, sum(broken)::bigint AS broken
FROM quality.rules_1m_by_partition
GROUP BY window_start, rule, dimension;

-- A dimension's score is passed / checked; without a check it is NULL, not 0.
CREATE OR REPLACE VIEW quality.score_1m AS
SELECT
    window_start,
    dimension,
    sum(checked - broken)::bigint AS passed,
    sum(checked)::bigint AS checked,
    sum(checked - broken)::double precision / nullif(sum(checked), 0) AS score
FROM quality.rules_1m_by_partition
GROUP BY window_start, dimension;

-- All dimensions weigh the same; those without a check do not take part.
CREATE OR REPLACE VIEW quality.overall_1m AS
SELECT window_start, avg(score) AS score
FROM quality.score_1m
GROUP BY window_start;
