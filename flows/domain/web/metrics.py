"""The metrics of web events.

To add one, add a `Measure` (or a `MetricTable`) here and run `shopstream migrate`.
"""

from __future__ import annotations

import polars as pl

from flows.domain.metrics import Dimension, Measure, MetricTable, Scope, Unit, by, when
from flows.domain.rules import ALWAYS
from flows.domain.text import WHITESPACE

TYPE = pl.col("event_type")
PURCHASE, REFUND = TYPE == "PURCHASE", TYPE == "REFUND"
ONCE = pl.col("once")
QUANTITY = pl.col("quantity").cast(pl.Int64)
AMOUNT = QUANTITY * pl.col("unit_price_minor")

TRAFFIC_1M = MetricTable(
    "traffic_1m",
    "Traffic",
    Scope.EVENT,
    ALWAYS,
    by("shop_id", "event_type", "channel", "device", "country"),
    (
        Measure("events", Unit.COUNT, "Events", "Accepted events.", pl.lit(1)),
        Measure(
            "visitors",
            Unit.COUNT,
            "Visitors",
            "Different visitors of this row: rows do not add up.",
            distinct="visitor_id",
        ),
    ),
)

ORDERS_1M = MetricTable(
    "orders_1m",
    "Orders",
    Scope.EVENT,
    PURCHASE | REFUND,
    by("shop_id", "currency", "country", "channel", "device"),
    (
        Measure("orders", Unit.COUNT, "Orders", "Purchase events.", when(PURCHASE)),
        Measure(
            "units",
            Unit.PIECES,
            "Units sold",
            "Pieces in purchases.",
            when(PURCHASE, pl.col("items_units")),
        ),
        Measure(
            "gross_minor",
            Unit.MINOR,
            "Gross sales",
            "Price times quantity of purchases, before discounts and refunds.",
            when(PURCHASE, pl.col("items_total_minor")),
        ),
        Measure(
            "discount_minor",
            Unit.MINOR,
            "Discounts",
            "Discounts of purchases.",
            when(PURCHASE, pl.col("discount_minor").fill_null(0)),
        ),
        Measure(
            "tax_minor",
            Unit.MINOR,
            "Tax",
            "Tax of purchases.",
            when(PURCHASE, pl.col("tax_minor").fill_null(0)),
        ),
        Measure(
            "shipping_minor",
            Unit.MINOR,
            "Shipping",
            "Shipping of purchases.",
            when(PURCHASE, pl.col("shipping_minor").fill_null(0)),
        ),
        Measure("refunds", Unit.COUNT, "Refunds", "Refund events.", when(REFUND)),
        Measure(
            "refund_minor",
            Unit.MINOR,
            "Refunded",
            "Price times quantity of refunds, at refund time.",
            when(REFUND, pl.col("items_total_minor")),
        ),
        Measure(
            "net_minor",
            Unit.MINOR,
            "Net sales",
            "Gross minus discounts minus refunds.",
            formula="gross_minor - discount_minor - refund_minor",
        ),
    ),
)

SALES_1M = MetricTable(
    "sales_1m",
    "Sales by product",
    Scope.ITEM,
    PURCHASE | REFUND,
    by("shop_id", "currency", "product_id", "category"),
    (
        Measure(
            "units", Unit.PIECES, "Units sold", "Pieces in purchases.", when(PURCHASE, QUANTITY)
        ),
        Measure(
            "gross_minor",
            Unit.MINOR,
            "Gross sales",
            "Price times quantity in purchases.",
            when(PURCHASE, AMOUNT),
        ),
        Measure(
            "refund_units",
            Unit.PIECES,
            "Units refunded",
            "Pieces in refunds.",
            when(REFUND, QUANTITY),
        ),
        Measure(
            "refund_minor",
            Unit.MINOR,
            "Refunded",
            "Price times quantity in refunds.",
            when(REFUND, AMOUNT),
        ),
    ),
)

PRODUCTS_1M = MetricTable(
    "products_1m",
    "Product interest",
    Scope.ITEM,
    TYPE.is_in(["PAGE_VIEW", "ADD_TO_CART", "CHECKOUT", "PURCHASE"]),
    by("shop_id", "product_id", "category"),
    (
        Measure(
            "views",
            Unit.COUNT,
            "Views",
            "Page views that show the product.",
            when(ONCE & (TYPE == "PAGE_VIEW")),
        ),
        Measure(
            "carts",
            Unit.COUNT,
            "Added to cart",
            "Events that put the product in a cart.",
            when(ONCE & (TYPE == "ADD_TO_CART")),
        ),
        Measure(
            "cart_units",
            Unit.PIECES,
            "Units added",
            "Pieces put in carts.",
            when(TYPE == "ADD_TO_CART", QUANTITY),
        ),
        Measure(
            "checkouts",
            Unit.COUNT,
            "Checkouts",
            "Checkouts with the product.",
            when(ONCE & (TYPE == "CHECKOUT")),
        ),
        Measure(
            "purchases",
            Unit.COUNT,
            "Purchases",
            "Purchases with the product.",
            when(ONCE & PURCHASE),
        ),
    ),
)

SEARCHES_1M = MetricTable(
    "searches_1m",
    "Searches",
    Scope.EVENT,
    TYPE == "SEARCH",
    (
        *by("shop_id"),
        Dimension(
            "query", pl.col("search_query").str.strip_chars(WHITESPACE).str.to_lowercase(), cap=True
        ),
    ),
    (
        Measure("searches", Unit.COUNT, "Searches", "Search events.", pl.lit(1)),
        Measure(
            "zero_results",
            Unit.COUNT,
            "Without result",
            "Searches that found nothing.",
            when((pl.col("search_results") == 0).fill_null(False)),
        ),
    ),
)

METRICS = (TRAFFIC_1M, ORDERS_1M, SALES_1M, PRODUCTS_1M, SEARCHES_1M)
