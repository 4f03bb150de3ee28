-- What clean has accounted for, a partition and minute: the offsets that it went past are as many as the outcomes that it
-- told of. `residue` is 0, or records have been lost: on the topic before clean read them, or as counts on their way here.
-- The newest minutes may still be on their way; minutes from before offsets were counted are left out.
CREATE OR REPLACE VIEW quality.residue_1m_by_partition AS
SELECT
    passed.window_start,
    passed.source_topic,
    passed.partition,
    passed.checked AS consumed,
    coalesce(told.records, 0)::bigint AS counted,
    (passed.checked - coalesce(told.records, 0))::bigint AS residue
FROM quality.rules_1m_by_partition AS passed
LEFT JOIN LATERAL (
    SELECT sum(outcomes.records) AS records
    FROM quality.outcomes_1m_by_partition AS outcomes
    WHERE outcomes.window_start = passed.window_start
        AND outcomes.flow = passed.flow
        AND outcomes.source_topic = passed.source_topic
        AND outcomes.partition = passed.partition
) AS told ON true
WHERE passed.rule = 'RECORD_MISSING' AND passed.partition >= 0;
