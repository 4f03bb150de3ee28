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
    LEAST_ORDERS,
    LEAST_REFUNDS,
    LEAST_SEARCHES,
    LEAST_USUAL_EVENTS,
    LEAST_WEEKS,
    MOST_WEEKS,
    ORDERS_DEVIATION,
    PURCHASES_DEVIATION,
    REFUND_SHARE,
    SILENT_SHOPS,
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


def _per(label: str, text: str, of: str) -> Sql:
    # a series per shop or currency of the rows in `of`; where there is none, one that is fine
    return series(
        f"""{NOW}, {text}
UNION ALL
SELECT $__timeTo()::timestamptz, 'none', 0 WHERE NOT EXISTS (SELECT FROM {of})
ORDER BY 1, 2""",
        "value",
        by=label,
    )


# The smallest of these windows in which enough orders are expected is the one that is judged: a big
# shop within two hours, a small one within a day.
WINDOWS_HOURS = (1, 6, 24)


def _weeks(table: str, sums: str) -> str:
    # `summed`: sums of a table by window, week (0 is the present) and shop; `shops`: their weeks
    return f"""spans AS (
  SELECT hours, week, date_trunc('hour', now) - make_interval(days => 7 * week) AS until
  FROM clock, unnest(ARRAY{list(WINDOWS_HOURS)}) AS hours, generate_series(0, {MOST_WEEKS}) AS week
), summed AS (
  SELECT hours, week, shop_id, {sums}
  FROM spans JOIN gold.{table}_1h_rows ON partition = 0
    AND window_start >= until - make_interval(hours => hours) AND window_start < until
  GROUP BY 1, 2, 3
), shops AS (
  SELECT shop_id, least({MOST_WEEKS}, floor(extract(epoch FROM now - min(window_start)) / 604800))
    AS weeks
  FROM gold.{table}_1d_rows, clock WHERE partition = 0 GROUP BY shop_id, now
)"""


PAST, PRESENT = "FILTER (WHERE week BETWEEN 1 AND weeks)", "FILTER (WHERE week = 0)"
AGAINST = (
    f"against the same hour of up to {MOST_WEEKS} weeks before, in standard deviations; where fewer"
    f" than {LEAST_ORDERS} are expected, of the last 6 or 24 hours. Quiet before {LEAST_WEEKS}"
    " weeks are known."
)
REVENUE_DROP = Rule(
    "revenue-drop",
    "Revenue drop",
    _per(
        "shop",
        f"""{_weeks("orders", "sum(orders) AS orders")}, expected AS (
  SELECT hours, shop_id, sum(orders) {PAST} / weeks AS usual,
    coalesce(sum(orders) {PRESENT}, 0) AS orders
  FROM summed JOIN shops USING (shop_id) WHERE weeks >= {LEAST_WEEKS} GROUP BY 1, 2, weeks
), judged AS (
  SELECT DISTINCT ON (shop_id) shop_id, usual, orders
  FROM expected WHERE usual >= {LEAST_ORDERS} ORDER BY shop_id, hours
)
SELECT {TIME}, shop_id AS shop, ((orders - usual) / sqrt(usual))::double precision AS value
FROM judged""",
        "judged",
    ),
    ORDERS_DEVIATION,
    PanelReference(uids.SHOPS, "Shops"),
    Severity.CRITICAL,
    "{label.shop} has far fewer orders than at this time of the weeks before: {number} standard"
    " deviations",
    f"Orders of a shop in the last whole hour {AGAINST}",
    10 * MINUTE,
)

PURCHASES_PER_VIEW = Rule(
    "purchases-per-view",
    "Purchases per view",
    _per(
        "shop",
        f"""{
            _weeks(
                "traffic",
                "coalesce(sum(events) FILTER (WHERE event_type = 'PAGE_VIEW'), 0) AS views,"
                " coalesce(sum(events) FILTER (WHERE event_type = 'PURCHASE'), 0) AS bought",
            )
        }, shares AS (
  SELECT hours, shop_id, coalesce(sum(views) {PRESENT}, 0) AS views,
    coalesce(sum(bought) {PRESENT}, 0) AS bought,
    least(sum(bought) {PAST} / nullif(sum(views) {PAST}, 0), 0.99) AS share
  FROM summed JOIN shops USING (shop_id) WHERE weeks >= {LEAST_WEEKS} GROUP BY 1, 2
), judged AS (
  SELECT DISTINCT ON (shop_id) shop_id, bought, views * share AS usual, share
  FROM shares WHERE views * share >= {LEAST_ORDERS} ORDER BY shop_id, hours
)
SELECT {TIME}, shop_id AS shop,
  ((bought - usual) / sqrt(usual * (1 - share)))::double precision AS value
FROM judged""",
        "judged",
    ),
    PURCHASES_DEVIATION,
    PanelReference(uids.SHOPS, "Shops"),
    Severity.WARNING,
    "In {label.shop} far fewer page views become a purchase than in the weeks before: {number}"
    " standard deviations",
    "People look and do not buy: checkout or payment may be broken. Purchases of the last whole"
    f" hour against what its page views let expect, {AGAINST}",
    10 * MINUTE,
)

SILENT_SHOP = Rule(
    "shop-silent",
    "A shop is silent",
    _per(
        "shop",
        f"""{_weeks("traffic", "sum(events) AS events")}, judged AS (
  SELECT shop_id, sum(events) {PAST} / weeks AS usual, coalesce(sum(events) {PRESENT}, 0) AS events
  FROM summed JOIN shops USING (shop_id)
  WHERE hours = 1 AND weeks >= {LEAST_WEEKS} GROUP BY shop_id, weeks
)
SELECT {TIME}, shop_id AS shop,
  CASE WHEN events = 0 AND usual >= {LEAST_USUAL_EVENTS} THEN 1 ELSE 0 END AS value
FROM judged""",
        "judged",
    ),
    SILENT_SHOPS,
    PanelReference(uids.SHOPS, "Silent shops"),
    Severity.WARNING,
    "Nothing at all comes from {label.shop}",
    "No event of a shop in the last whole hour, though the same hour of four to eight weeks before"
    f" had {LEAST_USUAL_EVENTS} or more on the mean: its site is down, or it no longer sends.",
    5 * MINUTE,
    whole=True,
)

REFUND_SPIKE = Rule(
    "refund-spike",
    "Refund spike",
    _per(
        "currency",
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
    "business",
    Team.SHOP,
    (REVENUE_DROP, PURCHASES_PER_VIEW, SILENT_SHOP, REFUND_SPIKE, ZERO_RESULTS),
)
