"""Stores and shops: who sells, who is silent, and at which hours of the week people buy."""

from __future__ import annotations

from flows.domain.web.metrics import ORDERS_1M, TRAFFIC_1M
from grafana import colours, thresholds, uids
from grafana.catalogue import source
from grafana.currency import major
from grafana.dashboard import CHANNEL, COUNTRY, CURRENCY, DEVICE, SHOP, Board
from grafana.panels import Chart, Grid, Panel, Stat, Style, Unit, Words
from grafana.queries import Column, numbers, series, table
from grafana.ranges import LAST_WEEK, YESTERDAY

PURCHASED = ("event_type = 'PURCHASE'",)
SEEN = ("event_type IN ('PAGE_VIEW', 'PURCHASE')",)
BY_SHOP = source(TRAFFIC_1M, "shop_id", "event_type", "events", more=SEEN)
SALES = source(ORDERS_1M, "shop_id", "net_minor")
PURCHASES = "sum(events) FILTER (WHERE event_type = 'PURCHASE')"
# purchases of the same span of last week from which on none at all is no chance
USUAL = 10
TO_LIVE = (
    "Live shop",
    f"/d/{uids.LIVE}?${{__url_time_range}}&var-shop=${{__data.fields.shop:percentencode}}",
)


def _spans(**backs: int) -> str:
    # purchases and page views of each shop, of the range or of the same times so many days before
    return ",\n".join(
        f"{name} AS (SELECT shop_id, coalesce({PURCHASES}, 0) AS bought,"
        f" coalesce(sum(events) FILTER (WHERE event_type = 'PAGE_VIEW'), 0) AS views\n"
        f"  FROM {BY_SHOP.rows(back)} GROUP BY 1)"
        for name, back in backs.items()
    )


SELLING = Panel(
    Words(
        "Shops that sell",
        "Shops with a purchase in the range",
        nothing="no shop sold in this range",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT nullif(count(DISTINCT shop_id), 0) AS "shops"\n'
            f"FROM {source(TRAFFIC_1M, 'shop_id', more=PURCHASED).rows()}",
            "shops",
        ),
    ),
    Unit.WHOLE,
    styles=(Style("shops", colours.GREEN, neutral=True),),
)
SILENT = Panel(
    Words(
        "Silent shops",
        f"Shops without a purchase in the range that had {USUAL} or more at the same time of the"
        " week before",
        "0",
        "no shop has a week before",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            f"WITH {_spans(now=0, week=LAST_WEEK)}\n"
            "SELECT count(*) FILTER (WHERE coalesce(now.bought, 0) = 0"
            f' AND week.bought >= {USUAL}) AS "silent"\n'
            "FROM week LEFT JOIN now USING (shop_id) HAVING count(*) > 0",
            "silent",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.SILENT_SHOPS,
)
SHOPS = Panel(
    Words(
        "Shops",
        "Purchases of each shop beside the same time of the day and of the week before, those that"
        " have lost most against last week first",
        "no shop far below last week",
        "nothing was sold in this range",
    ),
    Grid(10),
    (
        table(
            f"WITH {_spans(now=0, day=YESTERDAY, week=LAST_WEEK)}\n"
            "SELECT shop_id AS shop, coalesce(now.bought, 0) AS bought, day.bought AS day,"
            " week.bought AS week,\n"
            "  coalesce(now.bought, 0)::double precision / nullif(week.bought, 0) - 1 AS change,\n"
            "  coalesce(now.views, 0) AS views,\n"
            "  now.bought::double precision / nullif(now.views, 0) AS share\n"
            "FROM now FULL JOIN week USING (shop_id) LEFT JOIN day USING (shop_id)\n"
            "ORDER BY coalesce(now.bought, 0) - coalesce(week.bought, 0), 1 LIMIT 50",
            {
                "shop": Column.TEXT,
                **dict.fromkeys(
                    ("bought", "day", "week", "change", "views", "share"), Column.NUMBER
                ),
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("shop", title="Shop", link=TO_LIVE),
        Style("bought", title="Purchases"),
        Style("day", title="Day before"),
        Style("week", title="Week before"),
        Style(
            "change",
            title="Change",
            unit=Unit.RATIO,
            decimals=1,
            threshold=thresholds.REVENUE_CHANGE,
            cell="color-text",
        ),
        Style("views", title="Page views"),
        Style("share", title="Per view", unit=Unit.RATIO, decimals=2),
    ),
)
SALES_BY_SHOP = Panel(
    Words(
        "Net sales by shop",
        "Net sales in $currency of the eight shops with most",
        nothing="no orders in this range",
    ),
    Chart(bars=True, stacked=True, minimum=None),
    (
        series(
            SALES.by_value(
                "shop_id", f"coalesce({major('sum(net_minor)')}, 0)", "sum(net_minor)", top=8
            ),
            "value",
            by="metric",
        ),
    ),
    Unit.CURRENCY,
    2,
    amounts=(".*",),
)
HOURS = tuple(range(24))
WEEK = Panel(
    Words(
        "Hours of the week",
        "Purchases in an hour of the week, the mean of the last eight weeks, whatever the range;"
        " hours are UTC",
        nothing="no whole hour yet",
    ),
    Grid(7),
    (
        table(
            "WITH sold AS (SELECT window_start, sum(events) AS bought FROM gold.traffic_1h\n"
            "  WHERE event_type = 'PURCHASE' AND window_start >= now() - interval '56 days'\n"
            f"    AND window_start < date_trunc('hour', now()) AND {SHOP.condition} GROUP BY 1),\n"
            # an hour in which nobody bought has no row, and counts all the same
            "hours AS (SELECT generate_series((SELECT min(window_start) FROM sold),"
            " now() - interval '1 hour', '1 hour') AS window_start),\n"
            "means AS (SELECT extract(isodow FROM window_start) AS day,"
            " extract(hour FROM window_start) AS hour,\n"
            "  avg(coalesce(bought, 0))::double precision AS mean\n"
            "  FROM hours LEFT JOIN sold USING (window_start) GROUP BY 1, 2)\n"
            "SELECT (ARRAY['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'])[day::int] AS day,\n"
            + ",\n".join(
                "  "
                + ", ".join(
                    f'sum(mean) FILTER (WHERE hour = {h}) AS "{h}"' for h in HOURS[n : n + 2]
                )
                for n in range(0, 24, 2)
            )
            + "\nFROM means GROUP BY means.day ORDER BY means.day",
            {"day": Column.TEXT, **{str(hour): Column.NUMBER for hour in HOURS}},
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("day", title="Day", width=60),
        Style("/^[0-9]+$/", decimals=0, scheme="continuous-blues", cell="color-background"),
    ),
)

SHOPS_BOARD = Board(
    uids.SHOPS,
    "Stores and shops",
    "Who sells and who is silent, and at which hours of the week people buy.",
    (
        (4, ((12, SELLING), (12, SILENT))),
        (12, ((15, SHOPS), (9, SALES_BY_SHOP))),
        (9, ((24, WEEK),)),
    ),
    (SHOP, CURRENCY, COUNTRY, CHANNEL, DEVICE),
    since="now/d",
)
