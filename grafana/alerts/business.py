"""Is the shop selling as it should? Amounts are compared per currency, and not added.

Rows of a synthetic history (partition -1) do not count: they prove nothing about the shop. Spans
end where the counted events end, so that a pipeline that stands still does not look like a shop
without customers: the alert `freshness` watches the pipeline.
"""

from __future__ import annotations

from grafana import uids
from grafana.alerts.rule import MINUTE, Group, PanelReference, Rule, Severity, Team
from grafana.queries import Sql, series
from grafana.thresholds import (
    CONVERSION,
    LEAST_DAYS,
    LEAST_ORDERS,
    LEAST_REFUNDS,
    LEAST_SEARCHES,
    LEAST_VIEWS,
    REFUND_SHARE,
    REVENUE_CHANGE,
    ZERO_RESULT_SHARE,
)

# the newest minutes still fill
SETTLING = "interval '2 minutes'"
NOW = f"""WITH clock AS (
  SELECT least($__timeTo()::timestamptz, max(watermark)) - {SETTLING} AS now
  FROM ops.progress WHERE flow = 'metrics' AND partition >= 0
)"""
TIME = '$__timeTo()::timestamptz AS "time"'


def _during(minutes: int) -> str:
    # rows that are not synthetic, of the newest settled minutes
    return (
        f"partition >= 0 AND window_start >= clock.now - interval '{minutes} minutes'"
        " AND window_start < clock.now"
    )


def _of_the_shop(text: str) -> Sql:
    return series(f"{NOW}, {text}", "value")


def _per_currency(text: str, of: str) -> Sql:
    # a series per currency of the rows in `of`; where there is none, one that is fine
    return series(
        f"""{NOW}, {text}
UNION ALL
SELECT $__timeTo()::timestamptz, 'none', 0 WHERE NOT EXISTS (SELECT FROM {of})
ORDER BY 1, 2""",
        "value",
        by="currency",
    )


REVENUE_DROP = Rule(
    "revenue-drop",
    "Revenue drop",
    _per_currency(
        f"""hours AS (
  SELECT day, now - make_interval(hours => 24 * day + 1) AS since
  FROM clock CROSS JOIN generate_series(0, 7) AS day
), sold AS (
  SELECT hours.day, hour.currency, hour.gross, hour.orders
  FROM hours CROSS JOIN LATERAL (
    SELECT currency, sum(gross_minor)::double precision AS gross, sum(orders) AS orders
    FROM gold.orders_1m_by_partition
    WHERE partition >= 0
      AND window_start >= hours.since AND window_start < hours.since + interval '1 hour'
    GROUP BY currency
  ) AS hour
), usual AS (
  SELECT currency, percentile_cont(0.5) WITHIN GROUP (ORDER BY gross) AS gross
  FROM sold WHERE day > 0 AND gross > 0
  GROUP BY currency
  HAVING count(*) >= {LEAST_DAYS}
    AND percentile_cont(0.5) WITHIN GROUP (ORDER BY orders) >= {LEAST_ORDERS}
)
SELECT {TIME}, usual.currency AS currency, coalesce(sold.gross, 0) / usual.gross - 1 AS value
FROM usual LEFT JOIN sold ON sold.currency = usual.currency AND sold.day = 0""",
        "usual",
    ),
    REVENUE_CHANGE,
    PanelReference(uids.LIVE, "Net vs day"),
    Severity.CRITICAL,
    "Gross sales in {label.currency} are {percent} against this hour of the days before",
    "The last hour's gross sales in one currency against the median of the same hour of up to"
    f" seven days before, of those with sales. Quiet until {LEAST_DAYS} such days are known, and"
    f" below {LEAST_ORDERS} orders an hour.",
    10 * MINUTE,
)

CONVERSION_COLLAPSE = Rule(
    "conversion-collapse",
    "Conversion collapse",
    _of_the_shop(f"""seen AS (
  SELECT coalesce(sum(events) FILTER (WHERE event_type = 'PAGE_VIEW'), 0) AS views,
    coalesce(sum(events) FILTER (WHERE event_type = 'PURCHASE'), 0) AS purchases
  FROM gold.traffic_1m_by_partition CROSS JOIN clock
  WHERE event_type IN ('PAGE_VIEW', 'PURCHASE') AND {_during(30)}
)
SELECT {TIME},
  CASE WHEN views < {LEAST_VIEWS} THEN 1 ELSE purchases::double precision / views END AS value
FROM seen ORDER BY 1"""),
    CONVERSION,
    PanelReference(uids.LIVE, "Purchases per page view"),
    Severity.CRITICAL,
    "Only {percent} of page views become a purchase",
    "Purchases for each page view over half an hour. People look and do not buy: checkout or"
    f" payment may be broken. Quiet below {LEAST_VIEWS} page views.",
    10 * MINUTE,
)

REFUND_SPIKE = Rule(
    "refund-spike",
    "Refund spike",
    _per_currency(
        f"""moved AS (
  SELECT currency, sum(refunds) AS refunds,
    sum(refund_minor)::double precision / nullif(sum(gross_minor), 0) AS share
  FROM gold.orders_1m_by_partition CROSS JOIN clock
  WHERE {_during(60)}
  GROUP BY currency
)
SELECT {TIME}, currency,
  CASE WHEN refunds < {LEAST_REFUNDS} THEN 0 ELSE coalesce(share, 1) END AS value
FROM moved""",
        "moved",
    ),
    REFUND_SHARE,
    PanelReference(uids.PRODUCTS, "Refunded share"),
    Severity.WARNING,
    "Refunds in {label.currency} are {percent} of gross sales",
    "Refunded money as a share of gross sales in one currency over an hour, both at their own"
    f" time. Quiet below {LEAST_REFUNDS} refunds.",
    10 * MINUTE,
)

ZERO_RESULTS = Rule(
    "zero-result-searches",
    "Zero-result searches",
    _of_the_shop(f"""searched AS (
  SELECT coalesce(sum(searches), 0) AS searches, coalesce(sum(zero_results), 0) AS nothing
  FROM gold.searches_1m_by_partition CROSS JOIN clock
  WHERE {_during(30)}
)
SELECT {TIME},
  CASE WHEN searches < {LEAST_SEARCHES} THEN 0
    ELSE nothing::double precision / searches END AS value
FROM searched ORDER BY 1"""),
    ZERO_RESULT_SHARE,
    PanelReference(uids.LIVE, "Searches without result"),
    Severity.WARNING,
    "{percent} of searches find nothing",
    f"Searches without a result as a share of all over half an hour. Quiet below {LEAST_SEARCHES}"
    " searches.",
    10 * MINUTE,
)

BUSINESS = Group(
    "business", Team.SHOP, (REVENUE_DROP, CONVERSION_COLLAPSE, REFUND_SPIKE, ZERO_RESULTS)
)
