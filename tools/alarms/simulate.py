"""A month of looking at healthy shops, and each fault from noon after it.

Each shop runs by itself, on a database of its own. Rules are the rendered ones. Alerts that look at
whole hours are evaluated at a quarter past, the others every five minutes, and every minute once
something broke. An alarm counts once, however long it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo

from database.connection import connect
from database.migrate import migrate
from grafana.alerts import GROUPS
from grafana.alerts.files import ALERTING
from grafana.queries import Sql
from shopstream.demo.dev_services import Services, drop_database
from tools.alarms import rows
from tools.alarms.evaluate import State, Watch, ask, evaluate
from tools.alarms.shops import (
    FAULTS,
    PAST,
    START,
    Fault,
    Minutes,
    Shop,
    hours,
    minutes,
)

SEED = 20_261_127
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# what was before the month, of which the minutes are stored: alerts look back a week and an hour
KEPT = timedelta(days=8)
MONTH = START + PAST
BY_HOURS = ("revenue-drop", "purchases-per-view", "shop-silent")
FILES = [yaml.safe_load(path.read_text()) for path in sorted(ALERTING.glob("rules-*.yaml"))]
RENDERED = {r["uid"]: r for file in FILES for group in file["groups"] for r in group["rules"]}
RULES = {
    rule.slug: RENDERED[rule.uid]
    for group in GROUPS
    for rule in group.rules
    if isinstance(rule.query, Sql)
}
"""The rules that read the database, as Grafana reads them."""


@dataclass(frozen=True)
class Sight:
    """A shop's database with its past: as its owner, and as Grafana sees it."""

    shop: Shop
    owner: psycopg.Connection[Any]
    reader: psycopg.Connection[Any]
    end: datetime

    def states(self, watch: Watch, now: datetime) -> set[State]:
        """Evaluate a rule once."""
        results = evaluate(watch.rule, now, partial(ask, self.reader))
        if any(r.state is State.ERROR for r in results.values()):
            raise RuntimeError(f"{watch.rule['uid']} failed at {now}")
        return set(watch.look(results, now).values())

    def stand(self, now: datetime, flows_at: datetime, rollup_at: datetime) -> None:
        """Let the pipeline be at a moment; its newest event is at most that old."""
        rolled_up = min(now, rollup_at) - timedelta(seconds=10)
        rows.stand(self.owner, self._newest(min(now, flows_at)), rolled_up)

    def _newest(self, at: datetime) -> datetime:
        found = self.owner.execute(
            "SELECT max(window_start) FROM ops.counted_1m WHERE window_start < %s", (at,)
        ).fetchone()
        assert found
        newest: datetime = found[0] + timedelta(seconds=59)
        return min(at, newest)


@contextmanager
def sight(services: Services, shop: Shop, days: int) -> Iterator[Sight]:
    """Make a database with a shop's weeks before and so many healthy days."""
    name = f"alarms_{uuid4().hex[:12]}"
    with connect(services.database_url, 10) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = make_conninfo(services.database_url, dbname=name)
        try:
            migrate(url)
            with connect(url, 10) as owner, connect(url, 10) as reader:
                reader.execute("SET statement_timeout = '5s'")
                reader.execute("SET default_transaction_read_only = on")
                end = MONTH + days * DAY + DAY / 2
                chance = np.random.default_rng((SEED, int(shop.purchases * 10)))
                early = hours(shop, START, (MONTH - KEPT - START) // HOUR, chance)
                rows.store(owner, rows.rows_of_hours(shop, START, early))
                rows.store(owner, rows.first_day(shop, START))
                since = MONTH - KEPT
                _store(owner, shop, minutes(shop, since, (end - since) // MINUTE, chance))
                owner.execute("ANALYZE")
                yield Sight(shop, owner, reader, end)
        finally:
            drop_database(server, name)


def _store(owner: psycopg.Connection[Any], shop: Shop, drawn: Minutes) -> None:
    rows.store(owner, rows.rows_of_minutes(shop, drawn))
    rows.store(owner, rows.rows_of_hours(shop, drawn.since, rows.summed(drawn)))


def false_alarms(
    seen: Sight, days: int, slugs: Iterable[str] = tuple(RULES)
) -> dict[str, list[str]]:
    """Look at a healthy shop for so many days: when each rule began to fire."""
    watches = {slug: Watch(RULES[slug]) for slug in slugs}
    fired: dict[str, list[str]] = {slug: [] for slug in watches}
    before = dict.fromkeys(watches, False)
    for n in range(days * DAY // (5 * MINUTE)):
        now = MONTH + n * 5 * MINUTE
        seen.stand(now, now, now)
        for slug, watch in watches.items():
            if slug in BY_HOURS and now.minute != 15:
                continue
            fires = State.ALERTING in seen.states(watch, now) or (
                slug in BY_HOURS and State.PENDING in watch.states.values()
            )
            if fires and not before[slug]:
                fired[slug].append(f"{now:%Y-%m-%d %H:%M}")
            before[slug] = fires
    return fired


def found_after(seen: Sight, fault: Fault) -> timedelta | None:
    """Break something at noon after the healthy days: how long until its alert fires, if it does.

    The rows from noon on are the fault's when this returns.
    """
    noon, lasts = seen.end, fault.within + HOUR
    rows.forget(seen.owner, noon)
    drawn = minutes(
        seen.shop, noon, lasts // MINUTE + 60, np.random.default_rng(SEED), fault.habits
    )
    _store(seen.owner, seen.shop, drawn)
    if fault.beside is not None:
        others = minutes(fault.beside, noon, lasts // MINUTE, np.random.default_rng(SEED))
        # its minutes alone: what the account says of the first shop is not added to
        of_gold = (r for r in rows.rows_of_minutes(fault.beside, others) if r[0] in rows.BESIDE)
        rows.store(seen.owner, of_gold)
    watch = Watch(RULES[fault.rule])
    never = noon + DAY * 365
    step = 5 * MINUTE if fault.rule in BY_HOURS else MINUTE
    for n in range(-5, lasts // step):
        now = noon + n * step
        seen.stand(
            now,
            noon if fault.stands == "flows" else never,
            noon if fault.stands == "rollup" else never,
        )
        if State.ALERTING in seen.states(watch, now):
            return now - noon
    return None


def of_shop(shop: Shop) -> tuple[Fault, ...]:
    """Give the faults of a shop."""
    return tuple(fault for fault in FAULTS if fault.shop == shop.name)
