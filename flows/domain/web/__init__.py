"""Web events: what visitors do in a web store."""

from __future__ import annotations

import polars as pl

from flows.domain.family import Family, Items
from flows.domain.web.metrics import AMOUNT, METRICS, QUANTITY
from flows.domain.web.rules import EVENT_RULES, ITEM_RULES, MAX_PRICE_MINOR, MAX_QUANTITY
from flows.domain.web.stake import stake

WEB = Family(
    name="web",
    title="Web events",
    key="visitor_id",
    texts=(
        "event_id",
        "visitor_id",
        "customer_id",
        "shop_id",
        "page",
        "search_query",
        "order_id",
        "currency",
        "country",
        "app_version",
    ),
    rules=EVENT_RULES,
    metrics=METRICS,
    stake=stake,
    items=Items(
        name="items",
        columns={
            "product_id": pl.String(),
            "category": pl.String(),
            "quantity": pl.Int32(),
            "unit_price_minor": pl.Int64(),
        },
        texts=("product_id", "category"),
        rules=ITEM_RULES,
        rule_sums={
            "items_total_minor": QUANTITY.clip(0, MAX_QUANTITY)
            * pl.col("unit_price_minor").clip(0, MAX_PRICE_MINOR)
        },
        metric_sums={"items_units": QUANTITY, "items_total_minor": AMOUNT},
        once_per=("product_id", "category"),
    ),
)
