"""A month of healthy shops: how often their alerts are false, and how soon a true one comes.

Three shops of different sizes, with nights and weekends, each hour a chance draw around its usual
number. The rules are the rendered ones, evaluated once an hour on a real database; an alarm counts
once, however long it lasts. A month takes a minute: by itself the test looks at a week, with
ALERT_DAYS=30 at all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import pi, sin
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from psycopg import sql

from flows.connectors.postgres import identifier
from flows.domain.rollups import GOLD_ROLLUPS
from grafana.alerts.files import ALERTING
from shopstream.demo.dev_services import Services
from tests.support import alert_rows
from tests.support.databases import grafana_session, new_database
from tests.support.grafana_eval import State, ask, evaluate

Session = psycopg.Connection[Any]
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
PAST_WEEKS, DAYS = 8, 30
HOURS = (PAST_WEEKS * 7 + DAYS + 8) * 24
MONTH = START + timedelta(weeks=PAST_WEEKS)
# purchases an hour on the mean, and the share of page views that they are
SHOPS = {"small": (1.5, 0.004), "middle": (20.0, 0.03), "big": (400.0, 0.02)}
WEEKEND = 0.6
SEED = 20_261_127
LOOKED_DAYS = min(DAYS, int(os.environ.get("ALERT_DAYS", "7")))
FILES = [yaml.safe_load(path.read_text()) for path in ALERTING.glob("rules-business.yaml")]
RULES = {r["uid"]: r for file in FILES for group in file["groups"] for r in group["rules"]}


@dataclass(frozen=True)
class Fault:
    """Something that breaks after the month: from then on this part of the purchases is left."""

    rule: str
    shop: str
    left: float
    within_hours: int


FAULTS = (
    Fault("revenue-drop", "big", 0.0, 2),
    Fault("revenue-drop", "big", 0.7, 3),
    Fault("revenue-drop", "middle", 0.0, 7),
    Fault("revenue-drop", "small", 0.0, 26),
    Fault("purchases-per-view", "big", 0.5, 2),
    Fault("purchases-per-view", "middle", 0.2, 7),
)


def usual(hour: int, size: float) -> float:
    """What a shop sells in an hour: little at night, most at seven in the evening."""
    at = START + timedelta(hours=hour)
    day = 0.08 + 0.92 * max(0.0, sin(pi * (at.hour - 7) / 15)) if 7 <= at.hour < 22 else 0.08
    return size * 1.8 * day * (WEEKEND if at.weekday() >= 5 else 1.0)


def seed(db: Session, fault: Fault | None = None) -> None:
    """Store hours of purchases and page views; a fault begins at noon after the month."""
    chance = np.random.default_rng(SEED)
    broken = int((MONTH - START) / timedelta(hours=1)) + DAYS * 24 + 12
    for name in ("orders_1h", "orders_1d", "traffic_1h", "traffic_1d"):
        db.execute(sql.SQL("TRUNCATE {}").format(identifier(GOLD_ROLLUPS[name].table.name)))
    copied: dict[str, list[dict[str, object]]] = {"orders_1h": [], "traffic_1h": []}
    for shop, (size, share) in SHOPS.items():
        for hour in range(HOURS):
            left = fault.left if fault and fault.shop == shop and hour >= broken else 1.0
            views = int(chance.poisson(usual(hour, size) / share))
            # as many come as ever; of those who come, some buy
            bought = int(chance.binomial(views, share * left))
            cells = {"window_start": START + timedelta(hours=hour), "shop_id": shop}
            copied["orders_1h"].append({**cells, "orders": bought, "events": bought})
            copied["traffic_1h"] += [
                {**cells, "event_type": "PURCHASE", "events": bought},
                {**cells, "event_type": "PAGE_VIEW", "events": views},
            ]
        for name in ("orders_1d", "traffic_1d"):
            copied.setdefault(name, []).append(
                {"window_start": START, "shop_id": shop, "events": 1}
            )
    for name, rows in copied.items():
        copy(db, name, rows)


def copy(db: Session, name: str, rows: list[dict[str, object]]) -> None:
    """Fill what a row does not say with nothing."""
    table = GOLD_ROLLUPS[name].table
    empty = {c: "" if kind == "text" else 0 for c, kind in table.columns.items()}
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(identifier(table.name), columns)
    with db.cursor() as cursor, cursor.copy(statement) as out:
        for row in rows:
            out.write_row([row.get(column, nothing) for column, nothing in empty.items()])


@pytest.fixture(scope="module")
def sessions(embedded_services: Services) -> Iterator[tuple[Session, Session]]:
    """The owner of a database, and Grafana in it."""
    with new_database(embedded_services) as made, made.connect() as owner:
        alert_rows.insert(owner, [alert_rows.progress(START + timedelta(hours=HOURS))])
        with grafana_session(made) as reader:
            yield owner, reader


def firing(reader: Session, slug: str, now: datetime) -> set[str]:
    """The shops for which a rule fires at a quarter past an hour."""
    look = partial(ask, reader)
    results = evaluate(RULES[f"shopstream-{slug}"], now + timedelta(minutes=15), look)
    return {dict(labels)["shop"] for labels, r in results.items() if r.state is State.ALERTING}


@pytest.mark.parametrize("slug", ["revenue-drop", "purchases-per-view"])
def test_a_healthy_month_has_at_most_one_false_alarm(
    sessions: tuple[Session, Session], slug: str
) -> None:
    owner, reader = sessions
    seed(owner)
    alarms, before = [], set[str]()
    for hour in range(LOOKED_DAYS * 24):
        now = firing(reader, slug, MONTH + timedelta(hours=hour))
        alarms += [(hour, shop) for shop in now - before]
        before = now
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.rule}-{f.shop}-{f.left}")
def test_a_fault_is_found_within_its_time(sessions: tuple[Session, Session], fault: Fault) -> None:
    owner, reader = sessions
    seed(owner, fault)
    noon = MONTH + timedelta(days=DAYS, hours=12)
    found = [
        hour
        for hour in range(fault.within_hours + 1)
        if fault.shop in firing(reader, fault.rule, noon + timedelta(hours=hour))
    ]
    assert found, fault
    assert found[0] > 0  # before the first whole hour nobody can know
