"""Whether silence is strange: for the tile *Newest event* and the alert *freshness*."""

from __future__ import annotations

from grafana.thresholds import LEAST_MISSED_EVENTS


def newest_event(at: str) -> str:
    """Write the parts of a query at a time: `newest.age`, and whether something is `expected.due`.

    That is when accepted events wait, or when enough should have come since the newest one, by the
    hour around this time of last week. Thirty events an hour leave five minutes without one by
    chance in eight of a hundred cases (e^-2.5), so no fixed number of minutes fits all shops. Rows
    of a synthetic history are nobody's habit.
    """
    return f"""newest AS (
  SELECT {at} - coalesce(max(watermark), to_timestamp(0)) AS age, count(*) AS partitions
  FROM ops.progress WHERE flow = 'metrics' AND partition >= 0
), expected AS (
  SELECT coalesce(sum(events), 0) * extract(epoch FROM (SELECT age FROM newest)) / 3600
      >= {LEAST_MISSED_EVENTS}
    OR (SELECT coalesce(sum(in_flight), 0) > 0 FROM ops.gold_account) AS due
  FROM gold.traffic_1m_by_partition
  WHERE partition >= 0 AND window_start >= {at} - interval '7 days 30 minutes'
    AND window_start < {at} - interval '6 days 23 hours 30 minutes'
)"""
