"""Live shop, the home board: is the shop selling, to whom, what, and what do people not find."""

from __future__ import annotations

from flows.domain.metrics import MetricTable
from flows.domain.web.metrics import ORDERS_1M, SALES_1M, SEARCHES_1M, TRAFFIC_1M
from grafana import colours, thresholds, uids
from grafana.catalogue import applies, source, trend
from grafana.currency import major
from grafana.dashboard import CHANNEL, COUNTRY, CURRENCY, DEVICE, SHOP, Board
from grafana.headline import Headline, changes, headline
from grafana.panels import (
    Alarms,
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
from grafana.ranges import FROM, LAST_WEEK, TO, YESTERDAY
from grafana.silence import newest_event

VIEWS_AND_BUYS = ("event_type IN ('PAGE_VIEW', 'PURCHASE')",)
TO_PRODUCTS = (
    "Products and categories",
    f"/d/{uids.PRODUCTS}?${{__url_time_range}}&${{shop:queryparam}}&${{currency:queryparam}}",
)
TO_PRODUCT = ("This product", f"{TO_PRODUCTS[1]}&var-product=${{__value.raw:percentencode}}")
TO_PIPELINE = ("Pipeline", f"/d/{uids.PIPELINE}?${{__url_time_range}}")


def _events(event: str) -> str:
    return f"sum(events) FILTER (WHERE event_type = '{event}')"


NET = Headline(
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
    short="Net",
    change=thresholds.REVENUE_CHANGE,
    colour=colours.colour("Net sales"),
    link=TO_PRODUCTS,
)
ORDERS = Headline(
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
    short="Order",
    change=thresholds.REVENUE_CHANGE,
    colour=colours.colour("Orders"),
)
AOV = Headline(
    Words(
        "Average order value",
        "Gross sales minus discounts for each order, before refunds, in $currency",
        "",
        "no orders in this range",
    ),
    ORDERS_1M,
    ("gross_minor", "discount_minor", "orders"),
    f"{major('sum(gross_minor - discount_minor)')} / nullif(sum(orders), 0)",
    Unit.CURRENCY,
    2,
    short="AOV",
    rate=True,
    colour=colours.TEAL,
)
BUYS = Headline(
    Words(
        "Purchases per page view",
        "Both counted as events" + applies(TRAFFIC_1M),
        "",
        "no page views in this range",
    ),
    TRAFFIC_1M,
    ("event_type", "events"),
    f"coalesce({_events('PURCHASE')}, 0)::double precision / {_events('PAGE_VIEW')}",
    Unit.RATIO,
    2,
    short="Buys",
    rate=True,
    where=VIEWS_AND_BUYS,
    colour=colours.TEAL,
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
        nothing="nobody looked in this range",
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
    ),
    Unit.WHOLE,
    styles=(Style("Visitors", colours.colour("Visitors"), neutral=True),),
)
NEWEST = Panel(
    Words(
        "Newest event",
        "Age of the newest event that is counted; coloured when accepted events wait, or when"
        f" {thresholds.LEAST_MISSED_EVENTS} should have come since, by this hour of last week",
        "below 60 s while people shop",
        "no event has been counted yet",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        series(
            f"WITH {newest_event('now()')}\n"
            "SELECT now() AS time, CASE WHEN due THEN 'overdue' ELSE 'quiet' END AS metric,\n"
            "  greatest(extract(epoch FROM age), 0)::double precision AS value\n"
            "FROM newest, expected WHERE partitions > 0",
            "value",
            by="metric",
        ),
    ),
    Unit.SECONDS,
    0,
    thresholds.FRESHNESS_SECONDS,
    styles=(Style("overdue"), Style("quiet", colours.GREY, neutral=True)),
    link=TO_PIPELINE,
)


def _now(title: str, event: str) -> Panel:
    return Panel(
        Words(
            title,
            f"{event} events of the last fifteen minutes of the range" + applies(TRAFFIC_1M),
            nothing="none counted",
        ),
        Stat("lastNotNull", sparkline=False),
        (
            numbers(
                f'SELECT sum(events) AS "{title}"\nFROM gold.traffic_1m\n'
                f"WHERE window_start >= to_timestamp({TO} - 900) AND event_type = '{event}'\n"
                f"  AND {' AND '.join(source(TRAFFIC_1M).conditions)}\n"
                "HAVING count(*) > 0",
                title,
            ),
        ),
        Unit.WHOLE,
        styles=(Style(title, colours.GREY, neutral=True),),
    )


ALARMS = Panel(Words("Alerts", "What fires or is about to", nothing="nothing fires"), Alarms())

SALES = source(ORDERS_1M, "gross_minor", "orders", "refund_minor")
BEFORE = {YESTERDAY: "Day before", LAST_WEEK: "Week before"}


def _before(value: str) -> tuple[Sql, ...]:
    # the same measure of both spans before, moved to the times of this one
    return tuple(
        series(SALES.over_time(f'{value} AS "{name}"', back=back), name, ref=ref)
        for ref, (back, name) in zip("BC", BEFORE.items(), strict=True)
    )


STEP_EVENTS = source(
    TRAFFIC_1M,
    "event_type",
    "events",
    more=("event_type IN ('PAGE_VIEW', 'ADD_TO_CART', 'CHECKOUT', 'PURCHASE')",),
)
REVENUE_LINE = Panel(
    Words(
        "Sales over time",
        "Gross sales in $currency upwards and refunds downwards, in bars of a minute to a day;"
        " dashed the gross sales of the same time of the day and of the week before",
        nothing="no orders in this range",
    ),
    Chart(bars=True, minimum=None),
    (
        series(
            SALES.over_time(
                f'coalesce({major("sum(gross_minor)")}, 0) AS "Gross sales"',
                f'-coalesce({major("sum(refund_minor)")}, 0) AS "Refunded"',
            ),
            "Gross sales",
            "Refunded",
        ),
        *_before(f"coalesce({major('sum(gross_minor)')}, 0)"),
    ),
    Unit.CURRENCY,
    2,
    styles=(*painted("Gross sales", "Refunded"), *painted(*BEFORE.values(), line="dashed")),
    amounts=(".*",),
)
ORDERS_LINE = Panel(
    Words(
        "Orders over time",
        "Purchases in $currency in bars of a minute to a day, and dashed those of the same time of"
        " the day and of the week before",
        nothing="no orders in this range",
    ),
    Chart(bars=True),
    (
        series(SALES.over_time('coalesce(sum(orders), 0) AS "Orders"'), "Orders"),
        *_before("coalesce(sum(orders), 0)"),
    ),
    Unit.WHOLE,
    styles=(*painted("Orders"), *painted(*BEFORE.values(), line="dashed")),
)

STEPS = Panel(
    Words(
        "Steps (events)",
        "Events of each step and their share of the step before; visitors are not followed through"
        " the steps" + applies(TRAFFIC_1M),
        nothing="no page views in this range",
    ),
    Bars(rows=True),
    (
        table(
            f"WITH r AS (SELECT * FROM {STEP_EVENTS.rows()}),\n"
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
        nothing="nothing was sold in this range",
    ),
    Grid(10, join="product", sort=("Gross sales", True)),
    (
        table(
            "SELECT product_id AS product, gold.product_name(product_id) AS name,\n"
            f"  {major('sum(gross_minor)')} AS gross, sum(units) AS units\n"
            f"FROM {source(SALES_1M, 'product_id', 'gross_minor', 'units').rows()}\n"
            "GROUP BY 1 HAVING sum(gross_minor) > 0 ORDER BY sum(gross_minor) DESC, 1 LIMIT 10",
            {
                "product": Column.TEXT,
                "name": Column.TEXT,
                "gross": Column.NUMBER,
                "units": Column.NUMBER,
            },
        ),
        trend(SALES_1M, "product_id", "gross_minor", 10),
    ),
    Unit.WHOLE,
    styles=(
        Style("product", title="Product", link=TO_PRODUCT),
        Style("name", title="Name"),
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
            nothing="no events in this range",
        ),
        Pie(),
        (_ranked(TRAFFIC_1M, column, "events", 12),),
        Unit.WHOLE,
        styles=painted_all(tones),
    )


def _ranked(metric: MetricTable, column: str, measure: str, most: int) -> Sql:
    rows = source(metric, column, measure).rows()
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
        nothing="no orders in this range",
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
    Grid(9),
    (
        table(
            "SELECT query, sum(searches) AS searches, sum(zero_results)::double precision"
            " / sum(searches) AS zero\n"
            f"FROM {source(SEARCHES_1M, 'query', 'searches', 'zero_results').rows()}\n"
            "GROUP BY 1 HAVING sum(searches) > 0 ORDER BY 2 DESC, 1 LIMIT 9",
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
            source(SEARCHES_1M, "searches", "zero_results").over_time(
                'sum(zero_results)::double precision / nullif(sum(searches), 0) AS "Without result"'
            ),
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
    "Is the shop selling: today beside yesterday and the same day of last week.",
    (
        (
            4,
            (
                *((4, headline(spec)) for spec in (NET, ORDERS, AOV, BUYS)),
                (4, VISITORS),
                (4, NEWEST),
            ),
        ),
        (
            3,
            (
                *changes(NET, ORDERS, AOV, BUYS),
                (4, _now("Carts now", "ADD_TO_CART")),
                (4, _now("Checkouts now", "CHECKOUT")),
            ),
        ),
        (9, ((10, REVENUE_LINE), (9, ORDERS_LINE), (5, ALARMS))),
        (12, ((8, STEPS), (16, TOP))),
        (
            8,
            (
                (8, _share("channel", colours.CHANNELS)),
                (8, _share("device", colours.DEVICES)),
                (8, COUNTRIES),
            ),
        ),
        (11, ((12, SEARCHED), (12, ZERO))),
    ),
    (SHOP, CURRENCY, COUNTRY, CHANNEL, DEVICE),
    refresh="30s",
    since="now/d",
)
