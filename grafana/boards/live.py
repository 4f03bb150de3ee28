"""Live shop, the home board: is the shop selling, to whom, what, and what do people not find."""

from __future__ import annotations

from flows.domain.metrics import MetricTable
from flows.domain.web.metrics import ORDERS_1M, SALES_1M, SEARCHES_1M, TRAFFIC_1M
from grafana import colours, thresholds, uids
from grafana.catalogue import applies, source, trend
from grafana.currency import major
from grafana.dashboard import CHANNEL, COUNTRY, CURRENCY, DEVICE, SHOP, Board
from grafana.headline import Headline, headline
from grafana.panels import (
    Bars,
    Chart,
    Grid,
    Panel,
    Pie,
    Stat,
    Style,
    Unit,
    Words,
    painted,
    painted_all,
)
from grafana.queries import Column, Sql, numbers, series, table
from grafana.ranges import BEFORE, FROM, TO, by_grain, to_the_minute

VIEWS_AND_BUYS = ("event_type IN ('PAGE_VIEW', 'PURCHASE')",)
TO_PRODUCTS = (
    "Products and categories",
    f"/d/{uids.PRODUCTS}?${{__url_time_range}}&${{shop:queryparam}}&${{currency:queryparam}}",
)
TO_PIPELINE = ("Pipeline", f"/d/{uids.PIPELINE}?${{__url_time_range}}")


def _events(event: str) -> str:
    return f"sum(events) FILTER (WHERE event_type = '{event}')"


NET = headline(
    Headline(
        Words(
            "Net sales",
            "Gross sales minus discounts and refunds of the range, in $currency",
            "a change above -25 %",
            "no orders in this range",
        ),
        ORDERS_1M,
        ("net_minor",),
        major("sum(net_minor)"),
        Unit.CURRENCY,
        2,
        change=thresholds.REVENUE_CHANGE,
        colour=colours.colour("Net sales"),
        link=TO_PRODUCTS,
    )
)
ORDERS = headline(
    Headline(
        Words(
            "Orders",
            "Purchase events of the range, in $currency",
            "a change above -25 %",
            "no orders in this range",
        ),
        ORDERS_1M,
        ("orders",),
        "sum(orders)",
        Unit.WHOLE,
        0,
        change=thresholds.REVENUE_CHANGE,
        colour=colours.colour("Orders"),
    )
)
AOV = headline(
    Headline(
        Words(
            "Average order value",
            "Gross sales minus discounts for each order, before refunds, in $currency",
            "a value near that of the days before",
            "no orders in this range",
        ),
        ORDERS_1M,
        ("gross_minor", "discount_minor", "orders"),
        f"{major('sum(gross_minor - discount_minor)')} / nullif(sum(orders), 0)",
        Unit.CURRENCY,
        2,
        rate=True,
        colour=colours.TEAL,
    )
)
CONVERSION = headline(
    Headline(
        Words(
            "Conversion",
            "Purchases for each page view, both counted as events" + applies(TRAFFIC_1M),
            "above 1 %",
            "no page views in this range",
        ),
        TRAFFIC_1M,
        ("event_type", "events"),
        f"coalesce({_events('PURCHASE')}, 0)::double precision / {_events('PAGE_VIEW')}",
        Unit.RATIO,
        2,
        rate=True,
        where=VIEWS_AND_BUYS,
        threshold=thresholds.CONVERSION,
    )
)

# Distinct visitors add up over segments of one minute (a visitor has one country, channel and
# device), never over minutes.
LAST_HOUR = (
    f"window_start >= to_timestamp(greatest({FROM}, {TO} - 3600))"
    f" AND window_start < to_timestamp({TO} - 60)"
)
VIEWED = " AND ".join(("event_type = 'PAGE_VIEW'", *source(TRAFFIC_1M).conditions))
VISITORS = Panel(
    Words(
        "Visitors in a minute",
        "Different visitors with a page view in the newest whole minute; minutes do not add up, so"
        " longer ranges show their last hour" + applies(TRAFFIC_1M),
        "a line like that of the days before",
        "nobody looked in this range",
    ),
    Stat("lastNotNull"),
    (
        series(
            'SELECT window_start AS time, sum(visitors) AS "Visitors"\n'
            "FROM gold.traffic_1m\n"
            f"WHERE {LAST_HOUR}\n"
            f"  AND {VIEWED}\n"
            "GROUP BY 1 ORDER BY 1",
            "Visitors",
        ),
        numbers(
            'SELECT max(visitors) AS "busiest minute"\n'
            "FROM (SELECT window_start, sum(visitors) AS visitors FROM gold.traffic_1m\n"
            f"  WHERE {LAST_HOUR}\n"
            f"    AND {VIEWED}\n"
            "  GROUP BY 1) AS minutes",
            "busiest minute",
            ref="B",
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("Visitors", colours.colour("Visitors"), neutral=True),
        Style("busiest minute", neutral=True),
    ),
)
FRESHNESS = Panel(
    Words(
        "Freshness",
        "Age of the newest event that is counted, and of the slowest partition's",
        "below 60 s while people shop",
        "no event has been counted yet",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            "SELECT greatest(extract(epoch FROM now() - max(watermark)), 0)::double precision"
            ' AS "newest event",\n'
            "  greatest(extract(epoch FROM now() - min(watermark)), 0)::double precision"
            ' AS "slowest partition"\n'
            "FROM ops.progress WHERE flow = 'metrics' HAVING count(*) > 0",
            "newest event",
            "slowest partition",
        ),
    ),
    Unit.SECONDS,
    0,
    thresholds.FRESHNESS_SECONDS,
    styles=(Style("newest event"), Style("slowest partition")),
    link=TO_PIPELINE,
)

SALES = source(ORDERS_1M, "net_minor", "orders", "refund_minor")
STEPS = source(
    TRAFFIC_1M,
    "event_type",
    "events",
    more=("event_type IN ('PAGE_VIEW', 'ADD_TO_CART', 'CHECKOUT', 'PURCHASE')",),
)
REVENUE_LINE = Panel(
    Words(
        "Net sales over time",
        "Net sales in $currency in bars of a minute to a day, and dashed the same span before",
        "bars near the dashed line",
        "no orders in this range",
    ),
    Chart(bars=True, minimum=None),
    (
        series(
            f'SELECT window_start AS time, {major("sum(net_minor)")} AS "Net sales",\n'
            f'  -{major("sum(refund_minor)")} AS "Refunded"\n'
            f"FROM {by_grain(SALES)}\n"
            "GROUP BY 1 ORDER BY 1",
            "Net sales",
            "Refunded",
        ),
        series(
            f"SELECT window_start + make_interval(secs => {TO} - {FROM}) AS time,\n"
            f'  {major("sum(net_minor)")} AS "Period before"\n'
            f"FROM {by_grain(SALES, BEFORE)}\n"
            "GROUP BY 1 ORDER BY 1",
            "Period before",
            ref="B",
        ),
    ),
    Unit.CURRENCY,
    2,
    styles=(*painted("Net sales", "Refunded"), *painted("Period before", line="dashed")),
    amounts=(".*",),
)
ORDERS_LINE = Panel(
    Words(
        "Orders over time",
        "Purchases in $currency in bars of a minute to a day, and dashed the same span before",
        "bars near the dashed line",
        "no orders in this range",
    ),
    Chart(bars=True),
    (
        series(
            'SELECT window_start AS time, sum(orders) AS "Orders"\n'
            f"FROM {by_grain(SALES)}\n"
            "GROUP BY 1 ORDER BY 1",
            "Orders",
        ),
        series(
            f"SELECT window_start + make_interval(secs => {TO} - {FROM}) AS time,"
            ' sum(orders) AS "Period before"\n'
            f"FROM {by_grain(SALES, BEFORE)}\n"
            "GROUP BY 1 ORDER BY 1",
            "Period before",
            ref="B",
        ),
    ),
    Unit.WHOLE,
    styles=(*painted("Orders"), *painted("Period before", line="dashed")),
)

FUNNEL = Panel(
    Words(
        "Funnel",
        "Events of each step and their share of the step before; visitors are not followed through"
        " the steps" + applies(TRAFFIC_1M),
        "a share near that of the days before",
        "no page views in this range",
    ),
    Bars(rows=True),
    (
        table(
            f"WITH r AS (SELECT * FROM {to_the_minute(STEPS)}),\n"
            "steps AS (SELECT place, name, sum(events) AS events\n"
            "  FROM (VALUES (1, 'PAGE_VIEW', 'Page views'), (2, 'ADD_TO_CART', 'Added to cart'),"
            " (3, 'CHECKOUT', 'Checkouts'),\n"
            "    (4, 'PURCHASE', 'Purchases')) AS s (place, event_type, name)"
            " JOIN r USING (event_type) GROUP BY 1, 2)\n"
            "SELECT name || coalesce(' · ' || round(100.0 * events"
            " / nullif(lag(events) OVER (ORDER BY place), 0), 1) || ' %', '') AS step, events\n"
            "FROM steps ORDER BY place",
            {"step": Column.TEXT, "events": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
    styles=tuple(Style(f"/^{name}/", colour) for name, colour in colours.STEPS.items()),
)

TOP = Panel(
    Words(
        "Top products",
        "The ten products with the highest gross sales in $currency, with their line over the range"
        + applies(SALES_1M),
        "a familiar list",
        "nothing was sold in this range",
    ),
    Grid(join="product", sort=("Gross sales", True)),
    (
        table(
            f"SELECT product_id AS product, {major('sum(gross_minor)')} AS gross,"
            " sum(units) AS units\n"
            f"FROM {to_the_minute(source(SALES_1M, 'product_id', 'gross_minor', 'units'))}\n"
            "GROUP BY 1 HAVING sum(gross_minor) > 0 ORDER BY sum(gross_minor) DESC, 1 LIMIT 10",
            {"product": Column.TEXT, "gross": Column.NUMBER, "units": Column.NUMBER},
        ),
        trend(SALES_1M, "product_id", "gross_minor", 20),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product", link=TO_PRODUCTS),
        Style("gross", title="Gross sales", decimals=2, unit=Unit.CURRENCY),
        Style("units", title="Units", decimals=0),
        Style(
            "Trend #trend", colours.colour("Gross sales"), title="Over the range", cell="sparkline"
        ),
    ),
    amounts=("gross",),
)


def _share(column: str, tones: dict[str, str]) -> Panel:
    return Panel(
        Words(
            f"Traffic by {column}",
            f"Accepted events by the visitor's {column}" + applies(TRAFFIC_1M),
            "shares near those of the days before",
            "no events in this range",
        ),
        Pie(),
        (_ranked(TRAFFIC_1M, column, "events", 12),),
        Unit.WHOLE,
        styles=painted_all(tones),
    )


def _ranked(metric: MetricTable, column: str, measure: str, most: int) -> Sql:
    rows = to_the_minute(source(metric, column, measure))
    return table(
        f"SELECT {column} AS name, sum({measure}) AS value\n"
        f"FROM {rows}\n"
        f"GROUP BY 1 HAVING sum({measure}) > 0 ORDER BY 2 DESC, 1 LIMIT {most}",
        {"name": Column.TEXT, "value": Column.NUMBER},
    )


COUNTRIES = Panel(
    Words(
        "Orders by country",
        "Orders in $currency by the visitor's country, the ten with most",
        "a familiar order",
        "no orders in this range",
    ),
    Bars(rows=True),
    (_ranked(ORDERS_1M, "country", "orders", 10),),
    Unit.WHOLE,
)

SEARCHED = Panel(
    Words(
        "Search terms",
        "What people searched most, and how often nothing was found" + applies(SEARCHES_1M),
        "a share without result below 15 %",
        "nobody searched in this range",
    ),
    Grid(),
    (
        table(
            "SELECT query, sum(searches) AS searches, sum(zero_results)::double precision"
            " / sum(searches) AS zero\n"
            f"FROM {to_the_minute(source(SEARCHES_1M, 'query', 'searches', 'zero_results'))}\n"
            "GROUP BY 1 HAVING sum(searches) > 0 ORDER BY 2 DESC, 1 LIMIT 12",
            {"query": Column.TEXT, "searches": Column.NUMBER, "zero": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("query", title="Search"),
        Style("searches", title="Searches", width=110),
        Style(
            "zero",
            title="Without result",
            unit=Unit.RATIO,
            decimals=1,
            threshold=thresholds.ZERO_RESULT_SHARE,
            cell="gauge",
            maximum=1,
        ),
    ),
)
ZERO = Panel(
    Words(
        "Searches without result",
        "Share of searches that found nothing" + applies(SEARCHES_1M),
        "below 15 %",
        "nobody searched in this range",
    ),
    Chart(limits=True, legend_calcs=("lastNotNull", "max"), fill=12),
    (
        series(
            "SELECT window_start AS time, sum(zero_results)::double precision"
            ' / nullif(sum(searches), 0) AS "Without result"\n'
            f"FROM {by_grain(source(SEARCHES_1M, 'searches', 'zero_results'))}\n"
            "GROUP BY 1 ORDER BY 1",
            "Without result",
        ),
    ),
    Unit.RATIO,
    1,
    thresholds.ZERO_RESULT_SHARE,
    styles=painted("Without result"),
)

LIVE = Board(
    uids.LIVE,
    "Live shop",
    "Is the shop selling: money, orders, visitors and searches of the chosen range, minute by"
    " minute.",
    (
        (5, ((4, NET), (4, ORDERS), (4, AOV), (4, CONVERSION), (4, VISITORS), (4, FRESHNESS))),
        (9, ((12, REVENUE_LINE), (12, ORDERS_LINE))),
        (9, ((8, FUNNEL), (16, TOP))),
        (
            8,
            (
                (8, _share("channel", colours.CHANNELS)),
                (8, _share("device", colours.DEVICES)),
                (8, COUNTRIES),
            ),
        ),
        (9, ((12, SEARCHED), (12, ZERO))),
    ),
    (SHOP, CURRENCY, COUNTRY, CHANNEL, DEVICE),
    refresh="10s",
)
