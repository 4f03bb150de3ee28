"""Products and categories: what sells, what is looked at and not bought, and what comes back."""

from __future__ import annotations

from flows.domain.web.metrics import PRODUCTS_1M, SALES_1M
from grafana import colours, thresholds, uids
from grafana.catalogue import applies, over_time, source, trend
from grafana.currency import major
from grafana.dashboard import CURRENCY, SHOP, Board
from grafana.headline import Headline, headline
from grafana.panels import Bars, Chart, Grid, Panel, Stat, Style, Unit, Words, painted
from grafana.queries import Column, numbers, series, table
from grafana.ranges import by_grain, to_the_minute

OFFERED = ("shop", "currency")
NOT_BY = applies(PRODUCTS_1M, OFFERED)


def _rate(title: str, about: str, of: str, to: str, colour: str) -> Panel:
    return headline(
        Headline(
            Words(
                title,
                about + NOT_BY,
                "a share near that of the days before",
                "nothing was looked at in this range",
            ),
            PRODUCTS_1M,
            (of, to),
            f"sum({to})::double precision / nullif(sum({of}), 0)",
            Unit.RATIO,
            2,
            rate=True,
            colour=colour,
        )
    )


GROSS = headline(
    Headline(
        Words(
            "Gross sales",
            "Price times quantity of what was bought, before discounts and refunds, in $currency",
            "a change above -25 %",
            "nothing was sold in this range",
        ),
        SALES_1M,
        ("gross_minor",),
        major("sum(gross_minor)"),
        Unit.CURRENCY,
        2,
        change=thresholds.REVENUE_CHANGE,
        colour=colours.colour("Gross sales"),
    )
)
UNITS = headline(
    Headline(
        Words(
            "Units sold",
            "Pieces in purchases in $currency",
            "a change above -25 %",
            "nothing was sold in this range",
        ),
        SALES_1M,
        ("units",),
        "sum(units)",
        Unit.WHOLE,
        0,
        change=thresholds.REVENUE_CHANGE,
        colour=colours.colour("Units sold"),
    )
)
REFUND_SHARE = headline(
    Headline(
        Words(
            "Refunded share",
            "Refunds as a share of gross sales of the range, both at their own time, in $currency",
            "below 10 %",
            "nothing was sold in this range",
        ),
        SALES_1M,
        ("gross_minor", "refund_minor"),
        "sum(refund_minor)::double precision / nullif(sum(gross_minor), 0)",
        Unit.RATIO,
        1,
        rate=True,
        threshold=thresholds.REFUND_SHARE,
    )
)
SOLD = Panel(
    Words(
        "Products sold",
        "Different products with a purchase in the range, in $currency",
        "a number near that of the days before",
        "nothing was sold in this range",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT nullif(count(*), 0) AS "products" FROM (SELECT product_id\n'
            f"  FROM {to_the_minute(source(SALES_1M, 'product_id', 'units'))}\n"
            "  GROUP BY 1 HAVING sum(units) > 0) AS sold",
            "products",
        ),
    ),
    Unit.WHOLE,
    styles=(Style("products", colours.GREY, neutral=True),),
)

SALES = source(SALES_1M, "product_id", "category", "gross_minor", "units", "refund_minor")
SEEN = source(PRODUCTS_1M, "product_id", "views", "carts", "purchases")
SEEN_BY_CATEGORY = source(PRODUCTS_1M, "product_id", "category", "views", "carts", "purchases")
TABLE = Panel(
    Words(
        "Products",
        "The thirty products with the highest gross sales in $currency: how they sell, come back"
        " and convert; views, carts and purchases count events of all currencies",
        "a refunded share below 10 %",
        "nothing was sold in this range",
    ),
    Grid(join="product", sort=("Gross sales", True)),
    (
        table(
            "WITH sold AS (SELECT product_id, max(category) AS category,"
            " sum(gross_minor) AS gross, sum(units) AS units,\n"
            "    sum(refund_minor) AS refunded\n"
            f"  FROM {to_the_minute(SALES)}\n"
            "  GROUP BY 1 HAVING sum(gross_minor) > 0 ORDER BY 3 DESC, 1 LIMIT 30),\n"
            "seen AS (SELECT product_id, sum(views) AS views, sum(carts) AS carts,"
            " sum(purchases) AS purchases\n"
            f"  FROM {to_the_minute(SEEN)}\n"
            "  WHERE product_id IN (SELECT product_id FROM sold) GROUP BY 1)\n"
            f"SELECT product_id AS product, category, {major('gross')} AS gross, units,\n"
            "  refunded::double precision / nullif(gross, 0) AS refunded, views,\n"
            "  carts::double precision / nullif(views, 0) AS carted,\n"
            "  purchases::double precision / nullif(carts, 0) AS bought\n"
            "FROM sold LEFT JOIN seen USING (product_id) ORDER BY sold.gross DESC, 1",
            {
                "product": Column.TEXT,
                "category": Column.TEXT,
                "gross": Column.NUMBER,
                "units": Column.NUMBER,
                "refunded": Column.NUMBER,
                "views": Column.NUMBER,
                "carted": Column.NUMBER,
                "bought": Column.NUMBER,
            },
        ),
        trend(SALES_1M, "product_id", "gross_minor", 40),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product", width=110),
        Style("category", title="Category", width=120),
        Style("gross", title="Gross sales", unit=Unit.CURRENCY, decimals=2),
        Style("units", title="Units"),
        Style(
            "refunded",
            title="Refunded",
            unit=Unit.RATIO,
            decimals=1,
            threshold=thresholds.REFUND_SHARE,
            cell="color-text",
        ),
        Style("views", title="Views"),
        Style("carted", title="View to cart", unit=Unit.RATIO, decimals=1),
        Style("bought", title="Cart to purchase", unit=Unit.RATIO, decimals=1),
        Style(
            "Trend #trend",
            colours.colour("Gross sales"),
            title="Gross sales over the range",
            cell="sparkline",
            width=260,
        ),
    ),
    amounts=("gross",),
)

RATES = Panel(
    Words(
        "From view to purchase",
        "Carts for each view, and purchases for each cart, of products" + NOT_BY,
        "lines near those of the days before",
        "nothing was looked at in this range",
    ),
    Chart(legend_calcs=("lastNotNull",)),
    (
        series(
            "SELECT window_start AS time,"
            ' sum(carts)::double precision / nullif(sum(views), 0) AS "View to cart",\n'
            '  sum(purchases)::double precision / nullif(sum(carts), 0) AS "Cart to purchase"\n'
            f"FROM {by_grain(source(PRODUCTS_1M, 'views', 'carts', 'purchases'))}\n"
            "GROUP BY 1 ORDER BY 1",
            "View to cart",
            "Cart to purchase",
        ),
    ),
    Unit.RATIO,
    1,
    styles=(
        Style("View to cart", colours.STEPS["Added to cart"]),
        Style("Cart to purchase", colours.STEPS["Purchases"]),
    ),
)
REFUNDS = Panel(
    Words(
        "Refunds over time",
        "Refunded amounts in $currency at refund time, and their share of gross sales on the right"
        " axis",
        "a share below 10 %",
        "nothing was sold in this range",
    ),
    Chart(bars=True, legend_calcs=("lastNotNull",)),
    (
        series(
            f'SELECT window_start AS time, {major("sum(refund_minor)")} AS "Refunded",\n'
            "  sum(refund_minor)::double precision / nullif(sum(gross_minor), 0)"
            ' AS "Refunded share"\n'
            f"FROM {by_grain(source(SALES_1M, 'refund_minor', 'gross_minor'))}\n"
            "GROUP BY 1 ORDER BY 1",
            "Refunded",
            "Refunded share",
        ),
    ),
    Unit.CURRENCY,
    2,
    styles=(
        *painted("Refunded"),
        Style(
            "Refunded share",
            colours.AMBER,
            unit=Unit.RATIO,
            decimals=1,
            line="lines",
            right_axis=True,
        ),
    ),
    amounts=("Refunded",),
)
CATEGORIES = Panel(
    Words(
        "Categories",
        "Gross sales of the range in $currency by category, the ten biggest",
        "a familiar order",
        "nothing was sold in this range",
    ),
    Bars(rows=True),
    (
        table(
            f"SELECT category AS name, {major('sum(gross_minor)')} AS value\n"
            f"FROM {to_the_minute(source(SALES_1M, 'category', 'gross_minor'))}\n"
            "GROUP BY 1 HAVING sum(gross_minor) > 0 ORDER BY 2 DESC, 1 LIMIT 10",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.CURRENCY,
    2,
    amounts=(".*",),
)
UNBOUGHT = Panel(
    Words(
        "Looked at, not bought",
        "Products with most views for each purchase: candidates for a better price, picture or"
        " stock" + NOT_BY,
        "no surprise in this list",
        "nothing was looked at in this range",
    ),
    Grid(sort=("Views", True)),
    (
        table(
            "SELECT product_id AS product, max(category) AS category, sum(views) AS views,"
            " sum(carts) AS carts,\n"
            "  sum(purchases) AS purchases,"
            " sum(purchases)::double precision / nullif(sum(views), 0) AS conversion\n"
            f"FROM {to_the_minute(SEEN_BY_CATEGORY)}\n"
            "GROUP BY 1 HAVING sum(views) > 0"
            " ORDER BY sum(views) / (1.0 + sum(purchases)) DESC, 1 LIMIT 12",
            {
                "product": Column.TEXT,
                "category": Column.TEXT,
                "views": Column.NUMBER,
                "carts": Column.NUMBER,
                "purchases": Column.NUMBER,
                "conversion": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product"),
        Style("category", title="Category"),
        Style("views", title="Views"),
        Style("carts", title="Added to cart"),
        Style("purchases", title="Purchases"),
        Style("conversion", title="Conversion", unit=Unit.RATIO, decimals=1),
    ),
)

PRODUCTS = Board(
    uids.PRODUCTS,
    "Products and categories",
    "What sells, what is looked at and not bought, and what comes back.",
    (
        (
            5,
            (
                (4, GROSS),
                (4, UNITS),
                (4, REFUND_SHARE),
                (
                    4,
                    _rate(
                        "View to cart",
                        "Events that put a product in a cart, for each view of it",
                        "views",
                        "carts",
                        colours.BLUE,
                    ),
                ),
                (
                    4,
                    _rate(
                        "Cart to purchase",
                        "Purchases with a product, for each time it was put in a cart",
                        "carts",
                        "purchases",
                        colours.GREEN,
                    ),
                ),
                (4, SOLD),
            ),
        ),
        (
            10,
            (
                (12, over_time("sales_1m.gross_minor", by="category")),
                (12, over_time("sales_1m.gross_minor", by="product_id")),
            ),
        ),
        (12, ((24, TABLE),)),
        (9, ((8, CATEGORIES), (8, RATES), (8, REFUNDS))),
        (9, ((12, UNBOUGHT), (12, over_time("products_1m.views", by="category")))),
    ),
    (SHOP, CURRENCY),
    since="now-24h",
)
