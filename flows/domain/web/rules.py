"""What a web event must fulfil to be trusted.

Event rules may read two more columns: `items_count`, and `items_total_minor`, for which each item's
quantity and price are clipped to their valid range, so that no product can overflow.
"""

from __future__ import annotations

import polars as pl

from flows.domain.codes import QualityDimension
from flows.domain.rules import (
    EVENT_ID_MISSING,
    EVENT_ID_NOT_UUID,
    EVENT_TIME_FUTURE,
    EVENT_TIME_TOO_OLD,
    Rule,
    missing,
    too_long,
)
from flows.domain.text import WHITESPACE

# The largest product of the two is 10**12, and an int64 holds the sum of nine million of them.
MAX_QUANTITY = 100_000
MAX_PRICE_MINOR = 10_000_000
MAX_ITEMS = 10_000
MAX_TOTAL_MINOR = 10**12

TYPE = pl.col("event_type")
ORDER = TYPE.is_in(["PURCHASE", "REFUND"])
BASKET = TYPE.is_in(["PURCHASE", "REFUND", "ADD_TO_CART", "REMOVE_FROM_CART"])
SEARCH = TYPE == "SEARCH"
DISCOUNTED = pl.col("discount_minor").is_not_null()

EVENT_RULES = (
    EVENT_ID_MISSING,
    Rule("VISITOR_ID_MISSING", QualityDimension.COMPLETENESS, "visitor_id", missing("visitor_id")),
    Rule("SHOP_ID_MISSING", QualityDimension.COMPLETENESS, "shop_id", missing("shop_id")),
    Rule("ORDER_ID_MISSING", QualityDimension.COMPLETENESS, "order_id", missing("order_id"), ORDER),
    Rule("CURRENCY_MISSING", QualityDimension.COMPLETENESS, "currency", missing("currency"), ORDER),
    Rule(
        "ITEMS_MISSING", QualityDimension.COMPLETENESS, "items", pl.col("items_count") == 0, BASKET
    ),
    Rule(
        "SEARCH_QUERY_MISSING",
        QualityDimension.COMPLETENESS,
        "search_query",
        pl.col("search_query").is_null()
        | (pl.col("search_query").str.strip_chars(WHITESPACE) == ""),
        SEARCH,
    ),
    EVENT_ID_NOT_UUID,
    Rule(
        "EVENT_TYPE_UNKNOWN",
        QualityDimension.VALIDITY,
        "event_type",
        (TYPE == "UNKNOWN") & ~pl.col("newer_writer"),
    ),
    Rule(
        "COUNTRY_SHAPE",
        QualityDimension.VALIDITY,
        "country",
        ~pl.col("country").str.contains("^[A-Z]{2}$"),
    ),
    Rule(
        "CURRENCY_SHAPE",
        QualityDimension.VALIDITY,
        "currency",
        (pl.col("currency") != "") & ~pl.col("currency").str.contains("^[A-Z]{3}$"),
    ),
    Rule(
        "DISCOUNT_NEGATIVE",
        QualityDimension.VALIDITY,
        "discount_minor",
        pl.col("discount_minor") < 0,
    ),
    Rule("TAX_NEGATIVE", QualityDimension.VALIDITY, "tax_minor", pl.col("tax_minor") < 0),
    Rule(
        "SHIPPING_NEGATIVE",
        QualityDimension.VALIDITY,
        "shipping_minor",
        pl.col("shipping_minor") < 0,
    ),
    Rule(
        "SEARCH_RESULTS_NEGATIVE",
        QualityDimension.VALIDITY,
        "search_results",
        pl.col("search_results") < 0,
    ),
    too_long("visitor_id", 128),
    too_long("customer_id", 128),
    too_long("shop_id", 64),
    too_long("order_id", 64),
    too_long("page", 2048),
    too_long("search_query", 256),
    too_long("app_version", 64),
    Rule(
        "DISCOUNT_ABOVE_TOTAL",
        QualityDimension.CONSISTENCY,
        "discount_minor",
        pl.col("discount_minor") > pl.col("items_total_minor"),
        DISCOUNTED,
    ),
    Rule("TOO_MANY_ITEMS", QualityDimension.VOLUME, "items", pl.col("items_count") > MAX_ITEMS),
    Rule(
        "ORDER_TOTAL_TOO_LARGE",
        QualityDimension.VOLUME,
        "items",
        pl.col("items_total_minor") > MAX_TOTAL_MINOR,
    ),
    Rule(
        "AMOUNT_TOO_LARGE",
        QualityDimension.VOLUME,
        "tax_minor",
        (pl.col("tax_minor") > MAX_TOTAL_MINOR).fill_null(False)
        | (pl.col("shipping_minor") > MAX_TOTAL_MINOR).fill_null(False),
    ),
    EVENT_TIME_TOO_OLD,
    EVENT_TIME_FUTURE,
)

ITEM_RULES = (
    Rule(
        "PRODUCT_ID_MISSING",
        QualityDimension.COMPLETENESS,
        "items.product_id",
        missing("product_id"),
    ),
    too_long("product_id", 64, "items."),
    too_long("category", 64, "items."),
    Rule(
        "QUANTITY_OUT_OF_RANGE",
        QualityDimension.VALIDITY,
        "items.quantity",
        ~pl.col("quantity").is_between(1, MAX_QUANTITY),
    ),
    Rule(
        "PRICE_OUT_OF_RANGE",
        QualityDimension.VALIDITY,
        "items.unit_price_minor",
        ~pl.col("unit_price_minor").is_between(0, MAX_PRICE_MINOR),
    ),
)
