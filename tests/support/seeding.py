"""A small shop's rows for the boards: days with a daily shape, every variable, every outcome.

Seeded and made by the database itself, so that a shop of eight days is there in seconds. Roll-ups
are summed here by plain SQL, not by the job that panels rely on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from flows.domain.rollups import ROLLUPS, WIDTHS, Rollup

# Panels read minutes of their newest hours only. With rows in every sixth minute before those,
# eight days take 8 s instead of 30 s, and hours and days have as many rows as before.
DENSE = timedelta(hours=26)
SPARSE_MINUTES = 6

SHAPE = (  # busiest at noon, UTC
    "(0.35 + 0.65 * power(sin(pi() * extract(epoch FROM m) / 86400), 2))"
)

SEGMENTS = """
CREATE TEMP TABLE segments AS
SELECT shop, currency, country, channel, device,
  country_weight * channel_weight * device_weight AS weight
FROM (VALUES
    ('shop-uk', 'GBP', 'GB', 28), ('shop-eu', 'EUR', 'DE', 18), ('shop-eu', 'EUR', 'FR', 12),
    ('shop-us', 'USD', 'US', 16), ('shop-eu', 'SEK', 'SE', 5), ('shop-jp', 'JPY', 'JP', 6),
    ('shop o''neill', 'KWD', 'KW', 2)
  ) AS countries (shop, currency, country, country_weight),
  (VALUES ('DIRECT', 0.3), ('SEARCH', 0.28), ('SOCIAL', 0.12), ('ADS', 0.14)
  ) AS channels (channel, channel_weight),
  (VALUES ('MOBILE', 0.6), ('DESKTOP', 0.4)) AS devices (device, device_weight);

CREATE TEMP TABLE products AS
SELECT 'p-' || lpad(n::text, 4, '0') AS product,
  (ARRAY['lamps', 'chairs', 'kitchen', 'garden', 'toys', 'books', 'shoes', 'bags'])[1 + n %% 8]
    AS category,
  1.0 / power(n + 1, 0.9) AS weight, 500 + 137 * (n * 7 %% 60) AS price
FROM generate_series(0, 19) AS n;

CREATE TEMP TABLE minutes AS
SELECT m FROM generate_series(
    %(start)s::timestamptz, %(end)s::timestamptz - interval '1 minute', '1 minute') AS m
WHERE m >= %(dense)s OR extract(minute FROM m)::int %% %(sparse)s = 0;
"""

TRAFFIC = f"""
INSERT INTO gold.traffic_1m_by_partition (window_start, partition, shop_id, event_type, channel,
  device, country, events, visitors)
SELECT m, 0, shop, kind, channel, device, country, n, ceil(n * 0.6)
FROM minutes, segments,
  (VALUES ('PAGE_VIEW', 1.0), ('ADD_TO_CART', 0.16), ('CHECKOUT', 0.07), ('PURCHASE', 0.045),
    ('SEARCH', 0.2)) AS kinds (kind, share),
  LATERAL (SELECT
    floor(weight * share * {SHAPE} * 4 * (0.7 + 0.6 * random()) + random())::bigint AS n
  ) AS drawn
WHERE n > 0;
"""

ORDERS = f"""
INSERT INTO gold.orders_1m_by_partition (window_start, partition, shop_id, currency, country,
  channel, device, events, orders, units, gross_minor, discount_minor, tax_minor, shipping_minor,
  refunds, refund_minor)
SELECT m, 0, shop, currency, country, channel, device, orders + refunds, orders, orders * 2,
  orders * price, orders * price / 20, 0, 0, refunds, refunds * price
FROM minutes, segments,
  LATERAL (SELECT
    floor(greatest(weight * 0.15 * {SHAPE}, 0.04) + random())::bigint AS orders,
    (random() < 0.01)::int::bigint AS refunds,
    (2000 + 6000 * random())::bigint AS price
  ) AS drawn
WHERE orders + refunds > 0;
"""

SALES = f"""
INSERT INTO gold.sales_1m_by_partition (window_start, partition, shop_id, currency, product_id,
  category, events, units, gross_minor, refund_units, refund_minor)
SELECT m, 0, shop, currency, product, category, units + refunded, units, units * price, refunded,
  refunded * price
FROM minutes,
  (SELECT shop, currency, sum(weight) AS shop_weight FROM segments GROUP BY 1, 2) AS shops,
  products,
  LATERAL (SELECT
    floor(greatest(shop_weight * weight * 0.06 * {SHAPE}, 0.01) + random())::bigint AS units,
    (random() < 0.003)::int::bigint AS refunded
  ) AS drawn
WHERE units + refunded > 0;
"""

# A share of carts is rounded up or down by chance: rounded half away, the single carts of a quiet
# hour would end in no purchase at all, and a rate of it compares with nothing.
PRODUCTS = f"""
INSERT INTO gold.products_1m_by_partition (window_start, partition, shop_id, product_id, category,
  events, views, carts, cart_units, checkouts, purchases)
SELECT m, 0, shop, product, category, views + carts, views, carts, carts,
  floor(carts * 0.5 + random())::bigint, floor(carts * 0.3 + random())::bigint
FROM minutes, (SELECT shop, sum(weight) AS shop_weight FROM segments GROUP BY 1) AS shops, products,
  LATERAL (SELECT
    floor(greatest(shop_weight * weight * {SHAPE} * random(), 0.2) + random())::bigint AS views
  ) AS viewed,
  LATERAL (SELECT floor(views * 0.12 + random() * random())::bigint AS carts) AS carted
WHERE views + carts > 0;
"""

SEARCHES = f"""
INSERT INTO gold.searches_1m_by_partition (window_start, partition, shop_id, query, events,
  searches, zero_results)
SELECT m, 0, shop, query, n, n, CASE WHEN nothing THEN n ELSE 0 END
FROM minutes, (SELECT DISTINCT shop FROM segments) AS shops,
  (VALUES ('lamp', 9, false), ('oak chair', 6, false), ('teapot', 5, false),
    ('blue lamp', 4, false), ('café table', 3, true), ('puzzle', 3, false), ('trainers', 2, true),
    ('rug', 2, false), ('gift card', 2, true), ('50%% off', 1, true), ('o''clock', 1, false)
  ) AS queries (query, weight, nothing),
  LATERAL (SELECT floor(weight * 0.5 * {SHAPE} * random())::bigint AS n) AS drawn
WHERE n > 0;
"""

OUTCOMES = f"""
INSERT INTO quality.outcomes_1m_by_partition (window_start, flow, source_topic, partition, outcome,
  code, records)
SELECT m, 'clean', 'raw.web', partition, outcome, code, n
FROM minutes, generate_series(0, 1) AS partition,
  (VALUES ('accepted', '', 900.0), ('duplicate', '', 18), ('late', 'LATE', 2),
    ('rejected', 'INVALID', 6), ('rejected', 'NOT_AVRO', 1.5), ('rejected', 'TRUNCATED', 1),
    ('rejected', 'ID_CONFLICT', 0.5)) AS outcomes (outcome, code, size),
  LATERAL (SELECT
    floor(size * {SHAPE} * (0.5 + random()) + random() * 0.3)::bigint AS n
  ) AS drawn
WHERE n > 0;
"""

RULES = f"""
INSERT INTO quality.rules_1m_by_partition (window_start, flow, source_topic, partition, rule,
  dimension, checked, broken)
SELECT m, 'clean', 'raw.web', 0, rule, dimension, checked,
  least(checked, floor(checked * share * 2 * random() + share * 40 * random())::bigint)
FROM minutes,
  (VALUES ('EVENT_ID_MISSING', 'completeness', 0.001), ('ORDER_ID_MISSING', 'completeness', 0.002),
    ('UNIT_PRICE_NEGATIVE', 'validity', 0.004), ('CURRENCY_UNKNOWN', 'validity', 0.001),
    ('TOTAL_NOT_SUM', 'consistency', 0.003), ('EVENT_ID_CONFLICT', 'uniqueness', 0.0005),
    ('EVENT_TIME_LATE', 'timeliness', 0.002)) AS rules (rule, dimension, share),
  LATERAL (SELECT
    floor(1800 * {SHAPE} * (0.8 + 0.4 * random()))::bigint AS checked
  ) AS drawn;

INSERT INTO quality.rules_1m_by_partition (window_start, flow, source_topic, partition, rule,
  dimension, checked, broken)
SELECT window_start, flow, source_topic, partition, 'RECORD_MISSING', 'completeness', sum(records),
  0
FROM quality.outcomes_1m_by_partition GROUP BY 1, 2, 3, 4;

INSERT INTO quality.offsets_1m_by_partition (window_start, flow, source_topic, partition, offsets,
  control, lost, accepted)
SELECT window_start, flow, source_topic, partition, sum(records) + 1, 1, 0,
  sum(sum(records) FILTER (WHERE outcome = 'accepted'))
    OVER (PARTITION BY partition ORDER BY window_start)
FROM quality.outcomes_1m_by_partition GROUP BY 1, 2, 3, 4;

INSERT INTO ops.counted_1m (window_start, flow, source_topic, partition, events)
SELECT window_start, 'metrics', 'raw.web', partition, sum(events)
FROM gold.traffic_1m_by_partition GROUP BY 1, 4;
"""

DEAD_LETTERS = """
INSERT INTO quality.dead_letters (source_topic, source_partition, source_offset, source_timestamp,
  source_key, payload, flow, code, violations, schema_fingerprint, app_version, attempt,
  event_type, amount_minor, amount_currency)
SELECT 'raw.web', partition, row_number() OVER (PARTITION BY partition ORDER BY window_start, code,
    i),
  window_start + i * interval '1 second' / 2, convert_to('v-' || i, 'UTF8'),
  decode('c301', 'hex') || convert_to('event ' || code, 'UTF8') || decode('00ff07', 'hex'), 'clean',
  code,
  jsonb_build_array(jsonb_build_object(
    'rule', CASE code WHEN 'INVALID' THEN 'UNIT_PRICE_NEGATIVE' WHEN 'LATE' THEN 'EVENT_TIME_LATE'
      ELSE 'RECORD_UNREADABLE' END,
    'field', CASE code WHEN 'INVALID' THEN 'items.unit_price_minor' ELSE '' END,
    'dimension', 'validity',
    'value', CASE code WHEN 'INVALID' THEN (-i)::text END)),
  '9c2f64b1d0aa35e7',
  CASE WHEN code IN ('NOT_AVRO', 'TRUNCATED') THEN NULL
    ELSE (ARRAY['4.2.0', '4.1.3', '4.1.2', '3.9.8'])[1 + (i * 7 + partition) %% 4] END,
  1,
  CASE WHEN code IN ('INVALID', 'LATE')
    THEN CASE i %% 3 WHEN 0 THEN 'PURCHASE' ELSE 'PAGE_VIEW' END END,
  CASE WHEN code IN ('INVALID', 'LATE') AND i %% 3 = 0 THEN 1999 END,
  CASE WHEN code IN ('INVALID', 'LATE') AND i %% 3 = 0 THEN 'GBP' END
FROM quality.outcomes_1m_by_partition, generate_series(1, records) AS i
WHERE code <> '' AND window_start >= %(letters)s;
"""

OPERATIONS = """
INSERT INTO ops.progress (flow, source_topic, partition, source_offset, watermark, accepted)
SELECT 'metrics', 'raw.web', p, 100000 + p, %(end)s::timestamptz - p * interval '3 seconds',
  coalesce((SELECT sum(events) FROM ops.counted_1m WHERE partition = p), 0)
FROM generate_series(0, 3) AS p;

INSERT INTO ops.losses (flow, topic, partition, from_offset, to_offset, records, why)
VALUES ('clean', 'raw.web', 1, 4000, 4012, 12, 'deleted before it was read');

INSERT INTO ops.annotations (time, time_end, kind, title, text, tags) VALUES
  (%(end)s::timestamptz - interval '3 hours', NULL, 'deployment', 'Version 4.2.0', 'shop front',
    ARRAY['shop', 'web']),
  (%(end)s::timestamptz - interval '90 minutes', %(end)s::timestamptz - interval '89 minutes',
    'restart', 'metrics', 'exit 4', '{}');
"""

STATEMENTS = (
    SEGMENTS,
    TRAFFIC,
    ORDERS,
    SALES,
    PRODUCTS,
    SEARCHES,
    OUTCOMES,
    RULES,
    DEAD_LETTERS,
    OPERATIONS,
)


@dataclass(frozen=True)
class Span:
    """Rows are seeded for `[start, end)`, dead letters from `letters` on."""

    start: datetime
    end: datetime
    letters: datetime


def seed(db: psycopg.Connection[Any], span: Span) -> None:
    """Fill an empty, migrated database."""
    moments = asdict(span) | {"dense": span.end - DENSE, "sparse": SPARSE_MINUTES}
    db.execute("SELECT setseed(0.42)")
    # an unprepared query takes its values as text, so several statements can stand in one
    cursor = psycopg.ClientCursor(db)
    for statements in STATEMENTS:
        cursor.execute(statements, moments)
    _roll_up(db)
    db.execute("ANALYZE")


def _roll_up(db: psycopg.Connection[Any]) -> None:
    for rollup in ROLLUPS:
        db.execute(_summed(rollup))


def _summed(rollup: Rollup) -> sql.Composed:
    by = sql.SQL(", ").join(map(sql.Identifier, rollup.by))
    sums = sql.SQL(", ").join(
        sql.SQL("sum({})").format(sql.Identifier(name)) for name in rollup.sums
    )
    columns = sql.SQL(", ").join(
        map(sql.Identifier, ("window_start", "partition", *rollup.by, *rollup.sums))
    )
    return sql.SQL(
        "INSERT INTO {} ({}) SELECT date_bin({}, window_start, to_timestamp(0)) AS start, 0, {}, {}"
        " FROM {} WHERE partition >= 0 GROUP BY start, {}"
    ).format(
        sql.Identifier(*rollup.table.name.split(".")),
        columns,
        sql.Literal(WIDTHS[rollup.grain]),
        by,
        sums,
        sql.Identifier(*rollup.finer.name.split(".")),
        by,
    )
