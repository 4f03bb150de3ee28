"""Can the numbers be trusted? Minutes here are those of the Kafka timestamp; the newest one still
fills.
"""

from __future__ import annotations

from grafana import uids
from grafana.alerts.rule import MINUTE, Group, OnError, Place, Prom, Rule, Severity, Sql, Team
from grafana.thresholds import (
    LATE_SHARE,
    LEAST_RECORDS,
    NEW_CODES,
    QUALITY_SCORE,
    REFUSED_SHARE,
    REJECT_BUDGET_RATIO,
    RESIDUE_RECORDS,
)

NOW = "$__timeTo()::timestamptz"
CODED = "flow = 'clean' AND partition >= 0 AND code <> ''"


def during(minutes: int) -> str:
    """SQL: real rows of the newest whole minutes."""
    since, until = f"{NOW} - interval '{minutes + 1} minutes'", f"{NOW} - interval '1 minute'"
    return f"partition >= 0 AND window_start >= {since} AND window_start < {until}"


def share(of: str) -> Sql:
    """Records with some outcome as a share of all."""
    return Sql(f"""WITH judged AS (
  SELECT coalesce(sum(records), 0) AS records, coalesce(sum(records) FILTER (WHERE {of}), 0) AS found
  FROM quality.outcomes_1m_by_partition
  WHERE flow = 'clean' AND {during(15)}
)
SELECT {NOW} AS "time", CASE WHEN records < {LEAST_RECORDS} THEN 0 ELSE found::double precision / records END AS value
FROM judged ORDER BY 1""")


DEAD_LETTER_SHARE = Rule(
    "dead-letter-share",
    "Dead-letter share",
    share("outcome IN ('rejected', 'late')"),
    REFUSED_SHARE,
    Place(uids.QUALITY, "refused"),
    Severity.CRITICAL,
    "{percent} of the records are refused",
    "Rejected and late records as a share of all over a quarter of an hour. Quiet below"
    f" {LEAST_RECORDS} records.",
)

LATE = Rule(
    "late-share",
    "Late share",
    share("outcome = 'late'"),
    LATE_SHARE,
    Place(uids.QUALITY, "late"),
    Severity.WARNING,
    "{percent} of the records come too late to be counted",
    "Records behind their partition's watermark by more than the allowed lateness, as a share of"
    f" all over a quarter of an hour. Quiet below {LEAST_RECORDS} records.",
)

NEW_CODE = Rule(
    "new-reject-code",
    "New reject code",
    Sql(f"""WITH refused AS (
  SELECT code, sum(records) AS records
  FROM quality.outcomes_1m_by_partition
  WHERE {CODED} AND window_start >= {NOW} - interval '1 hour' AND window_start < {NOW}
  GROUP BY code
), fresh AS (
  SELECT code, records FROM refused
  WHERE NOT EXISTS (
    SELECT FROM quality.outcomes_1m_by_partition AS before
    WHERE {CODED} AND before.code = refused.code
      AND window_start >= {NOW} - interval '7 days 1 hour' AND window_start < {NOW} - interval '1 hour'
  ) AND EXISTS (
    SELECT FROM quality.outcomes_1m_by_partition
    WHERE flow = 'clean' AND partition >= 0 AND window_start < {NOW} - interval '1 day'
  )
)
SELECT {NOW} AS "time", code, records::double precision AS value FROM fresh
UNION ALL
SELECT {NOW}, 'none', 0 WHERE NOT EXISTS (SELECT FROM fresh)
ORDER BY 1, 2"""),
    NEW_CODES,
    Place(uids.LETTERS, "new-codes"),
    Severity.WARNING,
    "Records are refused with {label.code}, which was not seen for a week",
    "A code of the last hour that no record had in the seven days before it: a new kind of"
    " breakage. Quiet in the first day of a pipeline, when every code is new.",
    2 * MINUTE,
    whole=True,
)

SCORE = Rule(
    "quality-score",
    "Quality score",
    Sql(f"""WITH scores AS (
  SELECT dimension, sum(checked - broken)::double precision / nullif(sum(checked), 0) AS score
  FROM quality.rules_1m_by_partition
  WHERE flow = 'clean' AND {during(15)}
  GROUP BY dimension
  HAVING sum(checked) >= {LEAST_RECORDS}
)
SELECT {NOW} AS "time", dimension, score AS value FROM scores
UNION ALL
SELECT {NOW}, 'overall', coalesce(avg(score), 1) FROM scores
ORDER BY 1, 2"""),
    QUALITY_SCORE,
    Place(uids.QUALITY, "quality-score"),
    Severity.WARNING,
    "The quality score of {label.dimension} is {percent}",
    "Passed checks of all checks of a dimension over a quarter of an hour; overall is their mean.",
)

RESIDUE = Rule(
    "residue",
    "Accounting residue",
    Sql(f"""SELECT {NOW} AS "time", coalesce(sum(abs(residue)), 0)::double precision AS value
FROM quality.residue_1m_by_partition
WHERE window_start >= {NOW} - interval '6 hours' AND window_start < {NOW} - interval '3 minutes'
ORDER BY 1"""),
    RESIDUE_RECORDS,
    Place(uids.QUALITY, "accounting-residue"),
    Severity.CRITICAL,
    "{number} records have no outcome, or more than one",
    "Offsets that clean went past less the outcomes it told of, minute by minute over six hours:"
    " each must be 0. The newest three minutes are left out, because their counts may still be on"
    " their way.",
    on_error=OnError.ERROR,
    whole=True,
)

BUDGET = Rule(
    "reject-budget",
    "Reject budget close",
    Prom("max(max_over_time(shopstream_budget_ratio[5m])) or vector(0)"),
    REJECT_BUDGET_RATIO,
    Place(uids.PIPELINE, "reject-budget"),
    Severity.CRITICAL,
    "{percent} of the reject budget are used",
    "The highest share of its reject budget that a run of records has used in five minutes. At 100"
    " % clean stops, rather than empty the topic into the dead letters.",
    2 * MINUTE,
)

QUALITY = Group("quality", Team.DATA, (DEAD_LETTER_SHARE, LATE, NEW_CODE, SCORE, RESIDUE, BUDGET))
