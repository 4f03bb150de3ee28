"""Products and categories: what sells, what is looked at and not bought, and what comes back."""

from __future__ import annotations

from dataclasses import replace

from flows.domain.web.metrics import PRODUCTS_1M, SALES_1M
from grafana import colours, thresholds, uids
from grafana.catalogue import applies, over_time, source, trend
from grafana.currency import major
from grafana.dashboard import CURRENCY, SHOP, Board, Variable, choices
from grafana.headline import Headline, changes, headline
from grafana.panels import Bars, Chart, Grid, Panel, Style, Unit, Words, painted
from grafana.queries import Column, series, table

OFFERED = ("shop", "currency")
NOT_BY = applies(PRODUCTS_1M, OFFERED)
SHORT = {"carts": "Carts", "purchases": "Paid"}
# of a catalogue without end the ones that sell; any other can be typed
PRODUCT = Variable(
    "product",
    "product_id",
    "Product",
    choices("gold.sales", "product_id", first="units", most=500),
)
CHOSEN = (PRODUCT.condition,)
TO_ITSELF = (
    "This product alone",
    f"/d/{uids.PRODUCTS}?${{__url_time_range}}&${{shop:queryparam}}&${{currency:queryparam}}"
    "&var-product=${__value.raw:percentencode}",
)
LEAST_VIEWS = 50  # below that a share is chance


def _rate(title: str, about: str, of: str, to: str, colour: str) -> Headline:
    return Headline(
        Words(title, about + NOT_BY, nothing="nothing was looked at in this range"),
        PRODUCTS_1M,
        (of, to),
        f"sum({to})::double precision / nullif(sum({of}), 0)",
        Unit.RATIO,
        2,
        short=SHORT[to],
        rate=True,
        colour=colour,
    )


GROSS = Headline(
    Words(
        "Gross sales",
        "Price times quantity of what was bought, before discounts and refunds, in $currency",
        nothing="nothing was sold in this range",
    ),
    SALES_1M,
    ("gross_minor",),
    major("sum(gross_minor)"),
    Unit.CURRENCY,
    2,
    short="Gross",
    change=thresholds.REVENUE_CHANGE,
    colour=colours.colour("Gross sales"),
)
UNITS = Headline(
    Words(
        "Units sold",
        "Pieces in purchases in $currency",
        nothing="nothing was sold in this range",
    ),
    SALES_1M,
    ("units",),
    "sum(units)",
    Unit.WHOLE,
    0,
    short="Units",
    change=thresholds.REVENUE_CHANGE,
    colour=colours.colour("Units sold"),
)
REFUND_SHARE = Headline(
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
    short="Back",
    rate=True,
    threshold=thresholds.REFUND_SHARE,
)
SOLD = Headline(
    Words(
        "Products sold",
        "Different products with a purchase in the range, in $currency",
        nothing="nothing was sold in this range",
    ),
    SALES_1M,
    ("product_id", "units"),
    "nullif(count(DISTINCT product_id) FILTER (WHERE units > 0), 0)",
    Unit.WHOLE,
    0,
    short="Sold",
    rate=True,
    colour=colours.GREY,
)
TO_CART = _rate(
    "View to cart",
    "Events that put a product in a cart, for each view of it",
    "views",
    "carts",
    colours.BLUE,
)
TO_PURCHASE = _rate(
    "Cart to purchase",
    "Purchases with a product, for each time it was put in a cart",
    "carts",
    "purchases",
    colours.GREEN,
)
FIRST = tuple(
    replace(spec, where=CHOSEN) for spec in (GROSS, UNITS, REFUND_SHARE, TO_CART, TO_PURCHASE, SOLD)
)

SALES = source(
    SALES_1M, "product_id", "category", "gross_minor", "units", "refund_minor", more=CHOSEN
)
SEEN = source(PRODUCTS_1M, "product_id", "views", "carts", "purchases", more=CHOSEN)
SEEN_BY_CATEGORY = source(PRODUCTS_1M, "product_id", "category", "views", "carts", "purchases")
TABLE = Panel(
    Words(
        "Products",
        "The ten products with the highest gross sales in $currency: how they sell, come back"
        " and convert; views, carts and purchases count events of all currencies",
        "a refunded share below 10 %",
        "nothing was sold in this range",
    ),
    Grid(10, join="product", sort=("Gross sales", True)),
    (
        table(
            "WITH sold AS (SELECT product_id, max(category) AS category,"
            " sum(gross_minor) AS gross, sum(units) AS units,\n"
            "    sum(refund_minor) AS refunded, sum(sum(gross_minor)) OVER"
            " (ORDER BY sum(gross_minor) DESC, product_id)\n"
            "      / nullif(sum(sum(gross_minor)) OVER (), 0) AS summed\n"
            f"  FROM {SALES.rows()}\n"
            "  GROUP BY 1 HAVING sum(gross_minor) > 0 ORDER BY 3 DESC, 1 LIMIT 10),\n"
            "seen AS (SELECT product_id, sum(views) AS views, sum(carts) AS carts,"
            " sum(purchases) AS purchases\n"
            f"  FROM {SEEN.rows()}\n"
            "  WHERE product_id IN (SELECT product_id FROM sold) GROUP BY 1)\n"
            "SELECT product_id AS product, gold.product_name(product_id) AS name, category,\n"
            f"  {major('gross')} AS gross, summed::double precision AS summed, units,\n"
            "  refunded::double precision / nullif(gross, 0) AS refunded, views,\n"
            "  carts::double precision / nullif(views, 0) AS carted,\n"
            "  purchases::double precision / nullif(carts, 0) AS bought\n"
            "FROM sold LEFT JOIN seen USING (product_id) ORDER BY sold.gross DESC, 1",
            {
                "product": Column.TEXT,
                "name": Column.TEXT,
                "category": Column.TEXT,
                "gross": Column.NUMBER,
                "summed": Column.NUMBER,
                "units": Column.NUMBER,
                "refunded": Column.NUMBER,
                "views": Column.NUMBER,
                "carted": Column.NUMBER,
                "bought": Column.NUMBER,
            },
        ),
        trend(SALES_1M, "product_id", "gross_minor", 10, CHOSEN),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product", width=110, link=TO_ITSELF),
        Style("name", title="Name"),
        Style("category", title="Category", width=120),
        Style("gross", title="Gross sales", unit=Unit.CURRENCY, decimals=2),
        Style(
            "summed", title="Of all, summed", unit=Unit.RATIO, decimals=1, cell="gauge", maximum=1
        ),
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
        nothing="nothing was looked at in this range",
    ),
    Chart(legend_calcs=("lastNotNull",)),
    (
        series(
            source(PRODUCTS_1M, "views", "carts", "purchases", more=CHOSEN).over_time(
                'sum(carts)::double precision / nullif(sum(views), 0) AS "View to cart"',
                "\n  sum(purchases)::double precision / nullif(sum(carts), 0)"
                ' AS "Cart to purchase"',
            ),
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
            source(SALES_1M, "refund_minor", "gross_minor", more=CHOSEN).over_time(
                f'coalesce({major("sum(refund_minor)")}, 0) AS "Refunded"',
                "\n  sum(refund_minor)::double precision / nullif(sum(gross_minor), 0)"
                ' AS "Refunded share"',
            ),
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
        nothing="nothing was sold in this range",
    ),
    Bars(rows=True),
    (
        table(
            f"SELECT category AS name, {major('sum(gross_minor)')} AS value\n"
            f"FROM {source(SALES_1M, 'category', 'gross_minor', more=CHOSEN).rows()}\n"
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
        f"Products with at least {LEAST_VIEWS} views that miss most purchases against the average"
        " of their category, whichever product is chosen" + NOT_BY,
        nothing=f"no product has {LEAST_VIEWS} views in this range",
    ),
    Grid(8, sort=("Missed", True)),
    (
        table(
            f"WITH seen AS (SELECT product_id, category, sum(views) AS views,"
            " sum(purchases) AS purchases\n"
            f"  FROM {SEEN_BY_CATEGORY.rows()}\n"
            "  GROUP BY 1, 2),\n"
            "usual AS (SELECT category, sum(purchases) / nullif(sum(views), 0) AS share"
            " FROM seen GROUP BY 1)\n"
            "SELECT product_id AS product, gold.product_name(product_id) AS name, category, views,"
            " purchases,\n"
            "  purchases::double precision / views AS bought,\n"
            "  (views * share - purchases)::double precision AS missed\n"
            "FROM seen JOIN usual USING (category)\n"
            f"WHERE views >= {LEAST_VIEWS} AND views * share > purchases\n"
            "ORDER BY missed DESC, 1 LIMIT 8",
            {
                "product": Column.TEXT,
                "name": Column.TEXT,
                "category": Column.TEXT,
                "views": Column.NUMBER,
                "purchases": Column.NUMBER,
                "bought": Column.NUMBER,
                "missed": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product", link=TO_ITSELF),
        Style("name", title="Name"),
        Style("category", title="Category"),
        Style("views", title="Views"),
        Style("purchases", title="Purchases"),
        Style("bought", title="Per view", unit=Unit.RATIO, decimals=1),
        Style("missed", title="Missed", decimals=0),
    ),
)

PRODUCTS = Board(
    uids.PRODUCTS,
    "Products and categories",
    "What sells, what is looked at and not bought, and what comes back.",
    (
        (4, tuple((4, headline(spec)) for spec in FIRST)),
        (3, changes(*FIRST)),
        (
            10,
            (
                (12, over_time("sales_1m.gross_minor", by="category", more=CHOSEN)),
                (12, over_time("sales_1m.gross_minor", by="product_id", more=CHOSEN)),
            ),
        ),
        (12, ((24, TABLE),)),
        (9, ((8, CATEGORIES), (8, RATES), (8, REFUNDS))),
        (10, ((12, UNBOUGHT), (12, over_time("products_1m.views", by="category", more=CHOSEN)))),
    ),
    (SHOP, CURRENCY, PRODUCT),
    since="now-24h",
)
