"""Can the numbers be trusted? Minutes are those of the Kafka timestamp.

The newest minute is left out, because its records are still counted.
"""

from __future__ import annotations

from grafana import uids
from grafana.alerts.rule import MINUTE, Group, OnError, PanelReference, Rule, Severity, Team
from grafana.boards.quality import PASSED
from grafana.queries import Prom, Sql, series
from grafana.thresholds import (
    LATE_SHARE,
    LEAST_RECORDS,
    LOST_RECORDS,
    MANY_REFUSED,
    MISPLACED_SHARE,
    NEW_CODES,
    QUALITY_SCORE,
    REFUSED_SHARE,
    REJECT_BUDGET_RATIO,
    RESIDUE_RECORDS,
)

NOW = "$__timeTo()::timestamptz"
CODED = "flow = 'clean' AND partition >= 0 AND code <> ''"


REFUSED = "outcome IN ('rejected', 'late')"


def _during(minutes: int) -> str:
    # rows that are not synthetic, of the newest whole minutes
    since, until = f"{NOW} - interval '{minutes + 1} minutes'", f"{NOW} - interval '1 minute'"
    return f"partition >= 0 AND window_start >= {since} AND window_start < {until}"


def _share(of: str, enough: str = "true") -> Sql:
    # records for which `of` holds as a share of all, where these are enough
    return series(
        f"""WITH judged AS (
  SELECT coalesce(sum(records), 0) AS records,
    coalesce(sum(records) FILTER (WHERE {of}), 0) AS found
  FROM quality.outcomes_1m_by_partition
  WHERE flow = 'clean' AND {_during(15)}
)
SELECT {NOW} AS "time",
  CASE WHEN records < {LEAST_RECORDS} OR NOT {enough} THEN 0
    ELSE found::double precision / records END AS value
FROM judged ORDER BY 1""",
        "value",
    )


DEAD_LETTER_SHARE = Rule(
    "dead-letter-share",
    "Dead-letter share",
    _share(REFUSED),
    REFUSED_SHARE,
    PanelReference(uids.QUALITY, "Share not counted"),
    Severity.WARNING,
    "{percent} of the records are refused",
    "Rejected and late records as a share of all over a quarter of an hour. Quiet below"
    f" {LEAST_RECORDS} records.",
)

FLOOD = Rule(
    "dead-letter-flood",
    "Many dead letters",
    _share(
        REFUSED,
        f"""(found >= {MANY_REFUSED} OR EXISTS (
    SELECT FROM quality.dead_letters WHERE event_type = 'PURCHASE'
      AND source_timestamp >= {NOW} - interval '16 minutes' AND source_timestamp < {NOW}))""",
    ),
    REFUSED_SHARE,
    PanelReference(uids.QUALITY, "Share not counted"),
    Severity.CRITICAL,
    "{percent} of the records are refused, and they are many or purchases",
    "Rejected and late records as a share of all over a quarter of an hour, once they are"
    f" {MANY_REFUSED} or more, or a purchase is among them. Quiet below {LEAST_RECORDS} records.",
)

LATE = Rule(
    "late-share",
    "Late share",
    _share("outcome = 'late'"),
    LATE_SHARE,
    PanelReference(uids.QUALITY, "Late"),
    Severity.WARNING,
    "{percent} of the records come too late to be counted",
    "Records behind their partition's watermark by more than the allowed lateness, as a share of"
    f" all over a quarter of an hour. Quiet below {LEAST_RECORDS} records.",
)

NEW_CODE = Rule(
    "new-reject-code",
    "New reject code",
    series(
        f"""WITH refused AS (
  SELECT code, sum(records) AS records
  FROM quality.outcomes_1m_by_partition
  WHERE {CODED} AND window_start >= {NOW} - interval '1 hour' AND window_start < {NOW}
  GROUP BY code
), fresh AS (
  SELECT code, records FROM refused
  WHERE NOT EXISTS (
    SELECT FROM quality.outcomes_1m_by_partition AS before
    WHERE {CODED} AND before.code = refused.code
      AND window_start >= {NOW} - interval '7 days 1 hour'
      AND window_start < {NOW} - interval '1 hour'
  ) AND EXISTS (
    SELECT FROM quality.outcomes_1m_by_partition
    WHERE flow = 'clean' AND partition >= 0 AND window_start < {NOW} - interval '1 day'
  )
)
SELECT {NOW} AS "time", code, records::double precision AS value FROM fresh
UNION ALL
SELECT {NOW}, 'none', 0 WHERE NOT EXISTS (SELECT FROM fresh)
ORDER BY 1, 2""",
        "value",
        by="code",
    ),
    NEW_CODES,
    PanelReference(uids.DEAD_LETTERS, "New codes"),
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
    series(
        f"""WITH rules AS (
  SELECT dimension, rule, sum(checked) AS checked, sum(broken) AS broken
  FROM quality.rules_1m_by_partition
  WHERE flow = 'clean' AND {_during(15)}
  GROUP BY 1, 2
), scores AS (
  SELECT dimension, {PASSED} AS score
  FROM rules GROUP BY 1 HAVING max(checked) >= {LEAST_RECORDS}
)
SELECT {NOW} AS "time", dimension, score AS value FROM scores
UNION ALL
SELECT {NOW}, 'overall', coalesce(avg(score), 1) FROM scores
ORDER BY 1, 2""",
        "value",
        by="dimension",
    ),
    QUALITY_SCORE,
    PanelReference(uids.QUALITY, "Quality score"),
    Severity.WARNING,
    "The quality score of {label.dimension} is {percent}",
    "Share of records that pass all rules of a dimension, over a quarter of an hour; overall is the"
    " mean of the dimensions.",
)

RESIDUE = Rule(
    "residue",
    "Accounting residue",
    series(
        f"""SELECT {NOW} AS "time", coalesce(sum(abs(residue)), 0)::double precision AS value
FROM quality.residue_1m_by_partition
WHERE window_start >= {NOW} - interval '6 hours' AND window_start < {NOW} - interval '3 minutes'
ORDER BY 1""",
        "value",
    ),
    RESIDUE_RECORDS,
    PanelReference(uids.QUALITY, "Accounting residue"),
    Severity.WARNING,
    "{number} records have no outcome, or more than one",
    "Offsets that clean went past less the outcomes it told of, minute by minute over six hours:"
    " each must be 0. The newest three minutes are left out, because their counts may still be on"
    " their way.",
    on_error=OnError.ERROR,
    whole=True,
)

GOLD_RESIDUE = Rule(
    "gold-residue",
    "Gold residue",
    series(
        f"""SELECT {NOW} AS "time", (
  (SELECT coalesce(sum(abs(gold_residue)), 0) FROM ops.gold_account)
  + (SELECT coalesce(sum(abs(residue)), 0) FROM gold.residue_1m_by_partition
     WHERE window_start >= {NOW} - interval '6 hours' AND window_start < {NOW})
)::double precision AS value
ORDER BY 1""",
        "value",
    ),
    RESIDUE_RECORDS,
    PanelReference(uids.QUALITY, "Gold residue"),
    Severity.WARNING,
    "{number} accepted events are not in the numbers, or in them twice",
    "Events that clean accepted, up to where metrics stands, less those that gold counts and those"
    " that the ledger of losses holds, by partition; and, minute by minute over six hours, what was"
    " counted less what the tables hold.",
    on_error=OnError.ERROR,
    whole=True,
)

LOST = Rule(
    "lost-records",
    "Records were lost",
    series(
        f"""SELECT {NOW} AS "time", coalesce(sum(records), 0)::double precision AS value
FROM ops.losses WHERE partition >= 0 AND found_at > {NOW} - interval '1 day'
ORDER BY 1""",
        "value",
    ),
    LOST_RECORDS,
    PanelReference(uids.QUALITY, "Ledger of losses"),
    Severity.WARNING,
    "{number} records were gone before a flow had read them",
    "Rows of ops.losses of the last day: what retention deleted, or a crash of a broker took,"
    " before it was read.",
    on_error=OnError.ERROR,
    whole=True,
)

BUDGET = Rule(
    "reject-budget",
    "Reject budget close",
    Prom("max(max_over_time(shopstream_budget_ratio[5m])) or vector(0)", instant=True),
    REJECT_BUDGET_RATIO,
    PanelReference(uids.PIPELINE, "Reject budget"),
    Severity.CRITICAL,
    "{percent} of the reject budget are used",
    "The highest share of its reject budget that a run of records has used in five minutes. At 100"
    " % clean stops, rather than empty the topic into the dead letters.",
    2 * MINUTE,
)

MISPLACED = Rule(
    "misplaced-events",
    "Misplaced events",
    Prom(
        '(sum(rate(shopstream_placed_total{place="wrong"}[15m]))'
        " / (sum(rate(shopstream_placed_total[15m])) > 0)) or vector(0)",
        instant=True,
    ),
    MISPLACED_SHARE,
    PanelReference(uids.PIPELINE, "Misplaced events"),
    Severity.WARNING,
    "{percent} of the events are in another partition than their visitor's",
    "A producer sends without keys, with other keys, or with another partitioner than Java's. Each"
    " partition is counted for itself: such a visitor is counted in each, and a repeat of an event"
    " in another partition is counted again.",
    5 * MINUTE,
    on_error=OnError.ERROR,
)

QUALITY = Group(
    "quality",
    Team.DATA,
    (
        DEAD_LETTER_SHARE,
        FLOOD,
        LATE,
        NEW_CODE,
        SCORE,
        RESIDUE,
        GOLD_RESIDUE,
        LOST,
        MISPLACED,
        BUDGET,
    ),
)
