-- Which topics of a name the tables have heard of. Each has its own lane of partition numbers: lane * 10,000 + partition.
CREATE TABLE IF NOT EXISTS ops.topics (
    topic text NOT NULL,
    incarnation integer NOT NULL,
    lane integer NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, incarnation),
    UNIQUE (topic, lane)
);

-- What clean has accounted for, a partition and minute: the offsets that it went past are as many as the outcomes that it
-- told of, markers of transactions (with aborted records), and records that were gone before it read them. `residue` is 0,
-- or counts have been lost on their way here. The newest minutes may still be on their way; minutes from before offsets were
-- counted are left out.
CREATE OR REPLACE VIEW quality.residue_1m_by_partition AS
SELECT
    passed.window_start,
    passed.source_topic,
    passed.partition,
    passed.offsets AS consumed,
    coalesce(told.records, 0)::bigint AS counted,
    (passed.offsets - passed.control - passed.lost - coalesce(told.records, 0))::bigint AS residue,
    passed.control,
    passed.lost
FROM quality.offsets_1m_by_partition AS passed
LEFT JOIN LATERAL (
    SELECT sum(outcomes.records) AS records
    FROM quality.outcomes_1m_by_partition AS outcomes
    WHERE outcomes.window_start = passed.window_start
        AND outcomes.flow = passed.flow
        AND outcomes.source_topic = passed.source_topic
        AND outcomes.partition = passed.partition
) AS told ON true
WHERE passed.partition >= 0;

-- What gold holds of each minute, against what metrics counted into it. `residue` is 0, or rows of gold were lost or changed.
CREATE OR REPLACE VIEW gold.residue_1m_by_partition AS
SELECT
    counted.window_start,
    counted.source_topic,
    counted.partition,
    counted.events AS counted,
    coalesce(held.events, 0)::bigint AS stored,
    (counted.events - coalesce(held.events, 0))::bigint AS residue
FROM ops.counted_1m AS counted
LEFT JOIN LATERAL (
    SELECT sum(traffic.events) AS events
    FROM gold.traffic_1m_by_partition AS traffic
    WHERE traffic.window_start = counted.window_start AND traffic.partition = counted.partition
) AS held ON true
WHERE counted.flow = 'metrics' AND counted.partition >= 0;

-- What became of the events that clean accepted, a partition, over all time: accepted = counted + missed + in flight, or
-- `gold_residue` is not 0. `missed` events are in the ledger of losses. ops.counted_1m is never dropped, so this holds for ever.
-- Metrics counts in another lane behind a gap in the clean topic (flows/domain/incarnation.py): `base` is the lane that the
-- events were accepted in.
CREATE OR REPLACE VIEW ops.gold_account AS
WITH lanes AS (
    SELECT
        behind.topic,
        behind.lane,
        base.lane AS base
    FROM ops.topics AS behind
    JOIN ops.topics AS base
        ON base.topic = behind.topic
        AND base.incarnation = behind.incarnation - behind.incarnation % 256 / 16 * 16
)
SELECT
    numbered.source_topic,
    numbered.partition,
    numbered.accepted,
    coalesce(held.counted, 0)::bigint AS counted,
    coalesce(missed.missed, 0)::bigint AS missed,
    (numbered.accepted - coalesce(progress.accepted, 0))::bigint AS in_flight,
    (coalesce(progress.accepted, 0) - coalesce(missed.missed, 0) - coalesce(held.counted, 0))::bigint AS gold_residue
FROM (
    SELECT
        source_topic,
        partition,
        max(accepted) AS accepted
    FROM quality.offsets_1m_by_partition
    WHERE partition >= 0
    GROUP BY 1, 2
) AS numbered
LEFT JOIN (
    SELECT
        counted_1m.source_topic,
        coalesce(lanes.base * 10000 + counted_1m.partition % 10000, counted_1m.partition) AS partition,
        sum(counted_1m.events) AS counted
    FROM ops.counted_1m
    LEFT JOIN lanes ON lanes.topic = counted_1m.source_topic AND lanes.lane = counted_1m.partition / 10000
    WHERE counted_1m.partition >= 0
    GROUP BY 1, 2
) AS held USING (source_topic, partition)
LEFT JOIN (
    SELECT
        losses.topic AS source_topic,
        coalesce(lanes.base * 10000 + losses.partition % 10000, losses.partition) AS partition,
        sum(losses.records) AS missed
    FROM ops.losses
    LEFT JOIN lanes ON lanes.topic = losses.topic AND lanes.lane = losses.partition / 10000
    WHERE losses.why = 'missing on the clean topic'
    GROUP BY 1, 2
) AS missed USING (source_topic, partition)
LEFT JOIN (
    SELECT
        progress.source_topic,
        coalesce(lanes.base * 10000 + progress.partition % 10000, progress.partition) AS partition,
        max(progress.accepted) AS accepted
    FROM ops.progress
    LEFT JOIN lanes ON lanes.topic = progress.source_topic AND lanes.lane = progress.partition / 10000
    GROUP BY 1, 2
) AS progress USING (source_topic, partition);

-- What became of the records of a partition, over the minutes that are kept:
-- read = accepted + duplicate + late + rejected + lost + control, or `residue` is not 0.
CREATE OR REPLACE VIEW ops.account AS
SELECT
    passed.source_topic,
    passed.partition,
    passed.read,
    coalesce(told.accepted, 0)::bigint AS accepted,
    coalesce(told.duplicate, 0)::bigint AS duplicate,
    coalesce(told.late, 0)::bigint AS late,
    coalesce(told.rejected, 0)::bigint AS rejected,
    passed.lost,
    passed.control,
    (passed.read - passed.lost - passed.control - coalesce(told.records, 0))::bigint AS residue
FROM (
    SELECT
        source_topic,
        partition,
        min(window_start) AS since,
        sum(offsets)::bigint AS read,
        sum(control)::bigint AS control,
        sum(lost)::bigint AS lost
    FROM quality.offsets_1m_by_partition
    WHERE partition >= 0
    GROUP BY 1, 2
) AS passed
LEFT JOIN LATERAL (
    SELECT
        sum(records) AS records,
        sum(records) FILTER (WHERE outcome = 'accepted') AS accepted,
        sum(records) FILTER (WHERE outcome = 'duplicate') AS duplicate,
        sum(records) FILTER (WHERE outcome = 'late') AS late,
        sum(records) FILTER (WHERE outcome = 'rejected') AS rejected
    FROM quality.outcomes_1m_by_partition AS outcomes
    WHERE outcomes.source_topic = passed.source_topic
        AND outcomes.partition = passed.partition
        AND outcomes.window_start >= passed.since
) AS told ON true;
