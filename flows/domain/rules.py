"""What a web event must fulfil to be trusted. A rule is data; `judge.py` runs them all over a whole
batch at once.

An event rule reads the columns of the event and two sums over its items: `items_count` and
`items_total_minor` (each item's quantity and price clipped to their valid range, so that no product
can overflow). An item rule reads the columns of one item, and breaks the event when any item breaks
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from flows.domain.codes import QualityDimension

MAX_QUANTITY = 100_000
MAX_PRICE_MINOR = 10_000_000
MAX_ITEMS = 10_000
MAX_TOTAL_MINOR = 10**12
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)

ALWAYS = pl.lit(True)
TYPE = pl.col("event_type")
ORDER = TYPE.is_in(["PURCHASE", "REFUND"])
BASKET = TYPE.is_in(["PURCHASE", "REFUND", "ADD_TO_CART", "REMOVE_FROM_CART"])
SEARCH = TYPE == "SEARCH"
DISCOUNTED = pl.col("discount_minor").is_not_null()

# str.strip() and str.lower() of Python are what every reader of a query expects; Polars strips
# fewer characters unless told.
WHITESPACE = "".join(chr(i) for i in range(0x3001) if chr(i).isspace())

UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


@dataclass(frozen=True, eq=False)
class Rule:
    """`broken` is asked of the events (or items) for which `when` holds; null counts as not broken.

    A costly `broken` may have a cheap `suspect`, true of at least the same events: then only those
    are asked.
    """

    name: str
    dimension: QualityDimension
    field: str
    broken: pl.Expr
    when: pl.Expr = ALWAYS
    suspect: pl.Expr | None = None


def missing(field: str) -> pl.Expr:
    return pl.col(field).is_null() | (pl.col(field) == "")


def too_long(field: str, characters: int, prefix: str = "") -> Rule:
    name, text = f"{field.upper()}_TOO_LONG", pl.col(field).str
    # bytes are free to count, and no fewer than characters
    return Rule(
        name,
        QualityDimension.VALIDITY,
        prefix + field,
        text.len_chars() > characters,
        suspect=text.len_bytes() > characters,
    )


EVENT_RULES = (
    Rule("EVENT_ID_MISSING", QualityDimension.COMPLETENESS, "event_id", missing("event_id")),
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
    Rule(
        "EVENT_ID_NOT_UUID",
        QualityDimension.VALIDITY,
        "event_id",
        (pl.col("event_id") != "") & ~pl.col("event_id").str.contains(UUID),
    ),
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
    Rule(
        "EVENT_TIME_TOO_OLD",
        QualityDimension.TIMELINESS,
        "event_time",
        pl.col("event_time") < OLDEST,
    ),
    Rule(
        "EVENT_TIME_FUTURE",
        QualityDimension.TIMELINESS,
        "event_time",
        pl.col("event_time") > pl.col("newest_allowed"),
    ),
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

# Found while decoding, where the memory of all texts can be searched at once.
TEXT_HAS_NUL = Rule("TEXT_HAS_NUL", QualityDimension.VALIDITY, "", pl.col("has_nul"))
# Judged outside the tables above, because they need more than one event: the bytes, the watermark,
# or the ids known. RECORD_MISSING is checked of every offset that a partition moves on, and broken
# where Kafka had no record for it.
RECORD_MISSING = Rule("RECORD_MISSING", QualityDimension.COMPLETENESS, "", ALWAYS)
RECORD_UNREADABLE = Rule("RECORD_UNREADABLE", QualityDimension.VALIDITY, "", ALWAYS)
RECORD_TOO_LARGE = Rule("RECORD_TOO_LARGE", QualityDimension.VOLUME, "", ALWAYS)
EVENT_TIME_LATE = Rule("EVENT_TIME_LATE", QualityDimension.TIMELINESS, "event_time", ALWAYS)
EVENT_ID_CONFLICT = Rule("EVENT_ID_CONFLICT", QualityDimension.UNIQUENESS, "event_id", ALWAYS)
EVENT_ID_REPEATED = Rule("EVENT_ID_REPEATED", QualityDimension.UNIQUENESS, "event_id", ALWAYS)
JUDGED_RULES = (
    RECORD_MISSING,
    TEXT_HAS_NUL,
    RECORD_UNREADABLE,
    RECORD_TOO_LARGE,
    EVENT_TIME_LATE,
    EVENT_ID_CONFLICT,
    EVENT_ID_REPEATED,
)
DIMENSIONS = {r.name: r.dimension for r in (*EVENT_RULES, *ITEM_RULES, *JUDGED_RULES)}

TEXT_FIELDS = (
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
)
ITEM_TEXT_FIELDS = ("product_id", "category")
