-- The job of the four flows in Flink SQL: read, judge, drop repeated ids, count by the minute, upsert.
--
-- It does less than they do: no reasons for refusals, no dead letters, no tallies, no topic of clean
-- events; and a window's rows are written once, when it ends, where ours follow every batch.

SET 'parallelism.default' = '2';
SET 'pipeline.object-reuse' = 'true';
SET 'restart-strategy.type' = 'none';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.mode' = 'AT_LEAST_ONCE';
SET 'state.backend.type' = 'hashmap';
SET 'execution.checkpointing.storage' = 'filesystem';
SET 'execution.checkpointing.dir' = 'file://${PEER_CHECKPOINTS}';
SET 'table.exec.state.ttl' = '60 s';
SET 'table.local-time-zone' = 'UTC';
-- All tables read one stream of accepted events; without this each has ids of its own.
SET 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';
SET 'taskmanager.memory.network.min' = '256m';
SET 'taskmanager.memory.network.max' = '256m';

-- Enums are their number: Flink's Avro has none, and the bytes are the same.
CREATE TABLE raw_web (
  event_id STRING NOT NULL,
  event_type INT NOT NULL,
  event_time TIMESTAMP(3) NOT NULL,
  visitor_id STRING NOT NULL,
  customer_id STRING,
  shop_id STRING NOT NULL,
  page STRING,
  channel INT NOT NULL,
  search_query STRING,
  search_results INT,
  order_id STRING,
  currency STRING,
  discount_minor BIGINT,
  tax_minor BIGINT,
  shipping_minor BIGINT,
  device INT NOT NULL,
  country STRING NOT NULL,
  items ARRAY<ROW<product_id STRING NOT NULL, category STRING NOT NULL, quantity INT NOT NULL,
    unit_price_minor BIGINT NOT NULL> NOT NULL> NOT NULL,
  app_version STRING,
  arrived AS PROCTIME(),
  WATERMARK FOR event_time AS event_time - INTERVAL '60' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = '${PEER_TOPIC}',
  'properties.bootstrap.servers' = '${PEER_BOOTSTRAP}',
  'properties.group.id' = '${PEER_GROUP}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'avro-single-object'
);

CREATE TEMPORARY VIEW valid_web AS
SELECT event_id, event_type, event_time, visitor_id, shop_id, channel, search_query, search_results,
  currency, discount_minor, tax_minor, shipping_minor, device, country, items, arrived
FROM raw_web
WHERE event_id <> '' AND visitor_id <> '' AND shop_id <> ''
  AND event_id SIMILAR TO
    '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}'
  AND event_type > 0
  AND CHAR_LENGTH(country) = 2 AND country BETWEEN 'AA' AND 'ZZ'
  AND (currency IS NULL OR CHAR_LENGTH(currency) = 3)
  AND (event_type NOT IN (6, 7) OR (order_id <> '' AND currency <> ''))
  AND (event_type NOT IN (3, 4, 6, 7) OR CARDINALITY(items) > 0)
  AND (event_type <> 2 OR TRIM(search_query) <> '')
  AND COALESCE(discount_minor, 0) >= 0 AND COALESCE(tax_minor, 0) >= 0
  AND COALESCE(shipping_minor, 0) >= 0 AND COALESCE(search_results, 0) >= 0
  AND CHAR_LENGTH(visitor_id) <= 128 AND COALESCE(CHAR_LENGTH(customer_id), 0) <= 128
  AND CHAR_LENGTH(shop_id) <= 64 AND COALESCE(CHAR_LENGTH(order_id), 0) <= 64
  AND COALESCE(CHAR_LENGTH(page), 0) <= 2048 AND COALESCE(CHAR_LENGTH(search_query), 0) <= 256
  AND COALESCE(CHAR_LENGTH(app_version), 0) <= 64
  AND (discount_minor IS NULL OR discount_minor <= TOTAL_MINOR(items))
  AND CARDINALITY(items) <= 10000
  AND COALESCE(tax_minor, 0) <= 1000000000000 AND COALESCE(shipping_minor, 0) <= 1000000000000;

CREATE TEMPORARY VIEW accepted_web AS
SELECT event_id, event_type, event_time, visitor_id, shop_id, channel, search_query, search_results,
  currency, discount_minor, tax_minor, shipping_minor, device, country, items
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY arrived) AS occurrence FROM valid_web
)
WHERE occurrence = 1;

CREATE TEMPORARY VIEW accepted_items AS
SELECT e.event_type, e.event_time, e.shop_id, e.currency,
  i.product_id, i.category, i.quantity, i.unit_price_minor, i.once
FROM accepted_web AS e, LATERAL TABLE(ITEMS(e.items)) AS i;

CREATE TABLE traffic_1m (
  window_start TIMESTAMP(3), shop_id STRING, event_type STRING, channel STRING, device STRING,
  country STRING, events BIGINT, visitors BIGINT,
  PRIMARY KEY (window_start, shop_id, event_type, channel, device, country) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = '${PEER_JDBC_URL}', 'table-name' = 'traffic_1m',
  'username' = '${PEER_USER}', 'password' = '${PEER_PASSWORD}',
  'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

CREATE TABLE orders_1m (
  window_start TIMESTAMP(3), shop_id STRING, currency STRING, country STRING, channel STRING,
  device STRING, orders BIGINT, units BIGINT, gross_minor BIGINT, discount_minor BIGINT,
  tax_minor BIGINT, shipping_minor BIGINT, refunds BIGINT, refund_minor BIGINT,
  PRIMARY KEY (window_start, shop_id, currency, country, channel, device) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = '${PEER_JDBC_URL}', 'table-name' = 'orders_1m',
  'username' = '${PEER_USER}', 'password' = '${PEER_PASSWORD}',
  'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

CREATE TABLE sales_1m (
  window_start TIMESTAMP(3), shop_id STRING, currency STRING, product_id STRING, category STRING,
  units BIGINT, gross_minor BIGINT, refund_units BIGINT, refund_minor BIGINT,
  PRIMARY KEY (window_start, shop_id, currency, product_id, category) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = '${PEER_JDBC_URL}', 'table-name' = 'sales_1m',
  'username' = '${PEER_USER}', 'password' = '${PEER_PASSWORD}',
  'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

CREATE TABLE products_1m (
  window_start TIMESTAMP(3), shop_id STRING, product_id STRING, category STRING,
  `views` BIGINT, carts BIGINT, cart_units BIGINT, checkouts BIGINT, purchases BIGINT,
  PRIMARY KEY (window_start, shop_id, product_id, category) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = '${PEER_JDBC_URL}', 'table-name' = 'products_1m',
  'username' = '${PEER_USER}', 'password' = '${PEER_PASSWORD}',
  'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

CREATE TABLE searches_1m (
  window_start TIMESTAMP(3), shop_id STRING, query STRING, searches BIGINT, zero_results BIGINT,
  PRIMARY KEY (window_start, shop_id, query) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = '${PEER_JDBC_URL}', 'table-name' = 'searches_1m',
  'username' = '${PEER_USER}', 'password' = '${PEER_PASSWORD}',
  'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

INSERT INTO traffic_1m
SELECT window_start, shop_id,
  ARRAY['PAGE_VIEW', 'SEARCH', 'ADD_TO_CART', 'REMOVE_FROM_CART', 'CHECKOUT', 'PURCHASE',
    'REFUND'][event_type],
  ARRAY['UNKNOWN', 'DIRECT', 'SEARCH', 'SOCIAL', 'EMAIL', 'ADS', 'REFERRAL'][channel + 1],
  ARRAY['UNKNOWN', 'DESKTOP', 'MOBILE', 'TABLET'][device + 1],
  country, COUNT(*), COUNT(DISTINCT visitor_id)
FROM TABLE(TUMBLE(TABLE accepted_web, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, shop_id, event_type, channel, device, country;

INSERT INTO orders_1m
SELECT window_start, shop_id, currency, country,
  ARRAY['UNKNOWN', 'DIRECT', 'SEARCH', 'SOCIAL', 'EMAIL', 'ADS', 'REFERRAL'][channel + 1],
  ARRAY['UNKNOWN', 'DESKTOP', 'MOBILE', 'TABLET'][device + 1],
  SUM(CASE WHEN event_type = 6 THEN 1 ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN UNITS(items) ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN TOTAL_MINOR(items) ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN COALESCE(discount_minor, 0) ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN COALESCE(tax_minor, 0) ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN COALESCE(shipping_minor, 0) ELSE 0 END),
  SUM(CASE WHEN event_type = 7 THEN 1 ELSE 0 END),
  SUM(CASE WHEN event_type = 7 THEN TOTAL_MINOR(items) ELSE 0 END)
FROM TABLE(TUMBLE(TABLE accepted_web, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
WHERE event_type IN (6, 7)
GROUP BY window_start, window_end, shop_id, currency, country, channel, device;

INSERT INTO sales_1m
SELECT window_start, shop_id, currency, product_id, category,
  SUM(CASE WHEN event_type = 6 THEN CAST(quantity AS BIGINT) ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN quantity * unit_price_minor ELSE 0 END),
  SUM(CASE WHEN event_type = 7 THEN CAST(quantity AS BIGINT) ELSE 0 END),
  SUM(CASE WHEN event_type = 7 THEN quantity * unit_price_minor ELSE 0 END)
FROM TABLE(TUMBLE(TABLE accepted_items, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
WHERE event_type IN (6, 7)
GROUP BY window_start, window_end, shop_id, currency, product_id, category;

INSERT INTO products_1m
SELECT window_start, shop_id, product_id, category,
  SUM(CASE WHEN event_type = 1 THEN once ELSE 0 END),
  SUM(CASE WHEN event_type = 3 THEN once ELSE 0 END),
  SUM(CASE WHEN event_type = 3 THEN CAST(quantity AS BIGINT) ELSE 0 END),
  SUM(CASE WHEN event_type = 5 THEN once ELSE 0 END),
  SUM(CASE WHEN event_type = 6 THEN once ELSE 0 END)
FROM TABLE(TUMBLE(TABLE accepted_items, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
WHERE event_type IN (1, 3, 5, 6)
GROUP BY window_start, window_end, shop_id, product_id, category;

INSERT INTO searches_1m
SELECT window_start, shop_id, LOWER(TRIM(search_query)),
  COUNT(*), SUM(CASE WHEN search_results = 0 THEN 1 ELSE 0 END)
FROM TABLE(TUMBLE(TABLE accepted_web, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
WHERE event_type = 2
GROUP BY window_start, window_end, shop_id, LOWER(TRIM(search_query));
