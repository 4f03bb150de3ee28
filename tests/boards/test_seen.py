"""What a person sees on every SQL panel, judged by Grafana's own published code.

Nothing here needs a Grafana: `make tools` installs `@grafana/data` at the version of
docker-compose.yml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import yaml

from flows.runtime.paths import ROOT
from grafana.boards import BOARDS
from grafana.boards.live import LIVE
from grafana.boards.products import PRODUCTS
from grafana.boards.shops import SHOPS_BOARD
from grafana.colours import AMBER, GREEN
from grafana.dashboard import GRAFANA
from grafana.macros import Surroundings
from grafana.panels import Bars, Chart, Grid, Pie, Stat, Unit
from shopstream.demo.dev_services import Services
from tests.support.databases import grafana_session, new_database
from tests.support.panels_seen import JUDGE, Seen, look
from tests.support.seeding import Span, seed
from tests.support.shop_database import Shop
from tests.support.time_of_day import seeded_end

SPANS = {"an hour": 1, "six hours": 6, "a day": 24, "seven days": 7 * 24}
# what may have nothing to show where a shop sells
MAY_BE_EMPTY = re.compile(
    r"vs (day|week)$|^Looked at|^Ledger|^Lost|now$|^Roll-up age|^Sealed|^Newest event$"
)
OUTAGE = timedelta(minutes=31)


def seen_in(shop: Shop, hours: float) -> dict[str, Seen]:
    end = shop.end + timedelta(seconds=37)
    return look(BOARDS, shop.reader, Surroundings(end - timedelta(hours=hours), end))


def texts(seen: Seen) -> Iterator[str]:
    if isinstance(seen.panel.look, Grid):
        for row in seen.shown["rows"]:
            yield from row
    elif isinstance(seen.panel.look, Chart):
        yield from (line["last"] for line in seen.shown)
    else:
        yield from (value["text"] for value in seen.shown)


@pytest.mark.parametrize("kind", ["timescale"])
@pytest.mark.parametrize("span", SPANS)
def test_a_shop_that_sells(shop: Shop, span: str) -> None:
    for title, seen in seen_in(shop, SPANS[span]).items():
        nothing = seen.panel.words.nothing
        for text in texts(seen):
            assert "NaN" not in text, title
            assert "undefined" not in text, title
            if seen.panel.unit is Unit.WHOLE:
                assert not re.search(r"\d K", text), (title, text)
        if MAY_BE_EMPTY.search(title):
            continue
        if isinstance(seen.panel.look, Stat):
            assert len(seen.shown) == 1, title
            assert seen.shown[0]["text"] != nothing, title
        elif isinstance(seen.panel.look, Grid):
            check_table(seen)
        elif isinstance(seen.panel.look, Chart):
            check_chart(seen)
        else:
            assert isinstance(seen.panel.look, Bars | Pie)
            assert 1 <= len(seen.shown) <= 12, title
            assert nothing not in list(texts(seen)), title


def check_table(seen: Seen) -> None:
    title, rows, grid = seen.panel.title, seen.shown["rows"], seen.panel.look
    assert isinstance(grid, Grid)
    assert rows, title
    assert len({tuple(row) for row in rows}) == len(rows), title
    assert seen.panel.words.nothing not in [cell for row in rows for cell in row], title
    if grid.join:
        assert len(rows) == len(seen.frames[0]["fields"][0]["values"]), title
        lines = {row[-1] for row in rows}
        assert len(lines) == 1, (title, lines)  # every row has its line, and all are as long
        assert re.fullmatch(r"line of \d+", lines.pop()), title
        assert seen.shown["columns"][-1] != "Trend #trend", title


def check_chart(seen: Seen) -> None:
    assert seen.shown, seen.panel.title
    assert len({line["points"] for line in seen.shown}) == 1, seen.panel.title
    for line in seen.shown:
        assert line["name"] not in ("value", "A-series"), seen.panel.title
        assert line["missing"] < line["points"], (seen.panel.title, line["name"])
    look = seen.panel.look
    assert isinstance(look, Chart)
    assert all(line["range"][1] == look.maximum for line in seen.shown), seen.panel.title


@pytest.mark.parametrize("kind", ["plain"])
def test_an_empty_database_says_so(empty: Shop) -> None:
    for title, seen in seen_in(empty, 6).items():
        if isinstance(seen.panel.look, Stat):
            (value,) = seen.shown
            assert value["text"] == seen.panel.words.nothing, title
        elif isinstance(seen.panel.look, Grid) and title != "Database":
            assert seen.shown["rows"] == [], title
        elif isinstance(seen.panel.look, Chart):
            assert seen.shown == [], title


@pytest.fixture(scope="module")
def first_day(embedded_services: Services) -> Iterator[Callable[[float], dict[str, Seen]]]:
    """A shop of five hours whose pipeline stood still in the middle."""
    end = seeded_end()
    start, still = end - timedelta(hours=5), end - timedelta(hours=2, minutes=30)
    with new_database(embedded_services) as database:
        with database.connect() as db:
            seed(db, Span(start, end, letters=start))
            silence(db, still.isoformat(), (still + OUTAGE).isoformat())
        with grafana_session(database) as reader:
            shop = Shop(database.url, database.timescale, start, end, reader)
            yield lambda hours: seen_in(shop, hours)


def silence(db: psycopg.Connection[Any], since: str, until: str) -> None:
    names = ("gold.traffic", "gold.orders", "gold.sales", "gold.products", "gold.searches")
    for name in (*names, "quality.outcomes", "quality.rules"):
        db.execute(
            f"DELETE FROM {name}_1m_by_partition WHERE window_start >= %s"
            " AND window_start < %s".encode(),
            (since, until),
        )


def test_on_the_first_day_nothing_is_compared(
    first_day: Callable[[float], dict[str, Seen]],
) -> None:
    seen = first_day(4)
    changes = [s for title, s in seen.items() if title.endswith(("vs day", "vs week"))]
    assert len(changes) == 2 * (4 + 6)
    for change in changes:
        assert [value["text"] for value in change.shown] == ["nothing before"], change.panel.title
    for title in ("Sales over time", "Orders over time"):
        assert not {"Day before", "Week before"} & {line["name"] for line in seen[title].shown}


def test_an_outage_is_a_gap_and_not_a_line(first_day: Callable[[float], dict[str, Seen]]) -> None:
    seen = first_day(4)
    orders = values(seen["Orders over time"])
    assert orders.count(0) >= OUTAGE // timedelta(minutes=5) - 1
    for title in ("Searches without result", "Score by dimension over time"):
        rate = values(seen[title])
        assert rate.count(None) >= OUTAGE // timedelta(minutes=5) - 1, title
        assert len(orders) == len(rate) == 4 * 12


def values(seen: Seen) -> list[float | None]:
    found: list[float | None] = seen.frames[0]["fields"][1]["values"]
    return found


@pytest.mark.parametrize("kind", ["timescale"])
def test_a_line_has_its_own_height(shop: Shop) -> None:
    seen = seen_in(shop, 6)
    lines = [
        (title, s.shown[0]["line"]["range"])
        for title, s in seen.items()
        if isinstance(s.panel.look, Stat) and s.panel.look.sparkline and s.shown[0].get("line")
    ]
    assert len(lines) > 10
    spread = {title: r["delta"] / r["max"] for title, r in lines if r and r["max"]}
    assert spread["Purchases per page view"] > 0.1
    shares = [r for title, r in lines if seen[title].panel.unit is Unit.RATIO and r]
    assert not all(r["max"] == 1 and r["min"] == 0 for r in shares)


@pytest.mark.parametrize("kind", ["timescale"])
def test_money_has_its_sign_and_numbers_their_digits(shop: Shop) -> None:
    end = shop.end + timedelta(seconds=37)
    seen = look((LIVE, PRODUCTS), shop.reader, Surroundings(end - timedelta(days=2), end))
    assert re.fullmatch(r"[£€$][\d.,]+[KM]?", seen["Net sales"].shown[0]["text"])
    assert {value["color"] for value in seen["Net vs day"].shown} <= {GREEN, AMBER}
    assert re.fullmatch(r"[\d,]+", seen["Orders"].shown[0]["text"])
    assert re.fullmatch(r"\d+\.\d\d%", seen["Purchases per page view"].shown[0]["text"])
    (header, *_) = (seen["Products"].shown["columns"],)
    assert header[:4] == ["Product", "Name", "Category", "Gross sales"]
    sums = [float(row[4].removesuffix("%")) for row in seen["Products"].shown["rows"]]
    assert sums == sorted(sums)
    assert 0 < sums[-1] <= 100
    assert all(row[3][0] in "£€$" for row in seen["Products"].shown["rows"])


def test_the_judge_is_of_the_version_that_compose_runs() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["services"]["grafana"]["image"] == f"grafana/grafana:{GRAFANA}"
    package = json.loads((JUDGE.parent / "package.json").read_text())
    assert package["dependencies"]["@grafana/data"] == GRAFANA


@pytest.mark.parametrize("kind", ["plain"])
def test_an_hour_without_purchases_counts_in_the_mean_of_the_week(
    embedded_services: Services, kind: str
) -> None:
    with new_database(embedded_services) as database, database.connect() as db:
        ((hour,),) = db.execute("SELECT date_trunc('hour', now()) - interval '21 days'").fetchall()
        db.execute(
            "INSERT INTO gold.traffic_1h_rows (window_start, partition, shop_id, event_type,"
            " channel, device, country, events) VALUES (%s, 0, 'uk', 'PURCHASE', '', '', '', 9)",
            (hour,),
        )
        with grafana_session(database) as reader:
            around = Surroundings(hour, hour + timedelta(hours=1))
            shown = look((SHOPS_BOARD,), reader, around)["Hours of the week"].shown
    row = next(row for row in shown["rows"] if row[0] == f"{hour:%a}")
    assert row[1 + hour.hour] == "3"  # nine in one of three weeks
    others = [
        cell for r in shown["rows"] for n, cell in enumerate(r) if n and cell not in ("0", "3")
    ]
    assert not others
