"""Each SQL alert on both kinds of database, as the role of Grafana: rows that fire it, rows that do
not, and no rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from database.thresholds import reset_limit, set_limit
from grafana.alerts import GROUPS
from grafana.alerts.files import ALERTING
from grafana.queries import Sql
from tests.support.alert_rows import (
    NOON,
    Row,
    before,
    checked,
    counted,
    day_of,
    hour_of,
    insert,
    job,
    looked,
    loss,
    orders,
    outcome,
    passed,
    progress,
    refused,
    searched,
    traffic,
)
from tests.support.databases import Database, grafana_session
from tools.alarms.evaluate import Labels, Result, State, Watch, ask, evaluate

FILES = [yaml.safe_load(path.read_text()) for path in sorted(ALERTING.glob("rules-*.yaml"))]
RULES = {rule["uid"]: rule for file in FILES for group in file["groups"] for rule in group["rules"]}
SQL_RULES = sorted(r.slug for g in GROUPS for r in g.rules if isinstance(r.query, Sql))
RUNNING = progress(NOON)


def weekly(
    shop: str, count: int, weeks: int = 8, hours: Iterable[int] = (0,), partition: int = 0
) -> list[Row]:
    """Hours before the last whole one in each of the weeks before, and the shop's first day."""
    past = [
        hour_of(shop, count, week, hour, partition)
        for week in range(1, weeks + 1)
        for hour in hours
    ]
    return [*past, day_of(shop, weeks, partition)]


def looked_weekly(shop: str, views: int, bought: int, weeks: int = 8) -> list[Row]:
    """Page views and purchases in each of the weeks before, and the shop's first day."""
    past = [row for week in range(1, weeks + 1) for row in looked(shop, views, bought, week)]
    return [*past, day_of(shop, weeks, table="traffic")]


@dataclass(frozen=True)
class Case:
    """`firing` are the labels of the series that fire; `value` is the number of the one series of
    `about`."""

    name: str
    rule: str
    rows: list[Row]
    firing: tuple[dict[str, str], ...] = ()
    about: dict[str, str] | None = None
    value: float | None = None


def fires(name: str, rule: str, rows: list[Row], *firing: dict[str, str], value: float) -> Case:
    return Case(name, rule, rows, firing, firing[0], value)


def quiet(name: str, rule: str, rows: list[Row], value: float, **about: str) -> Case:
    return Case(name, rule, rows, (), about, value)


NOW_EUR = before(minutes=20)
OLD = outcome(before(days=3), "rejected", 5, "TRUNCATED")
CASES = [
    fires(
        "a shop sells far less than at this hour of the weeks before",
        "revenue-drop",
        [RUNNING, *weekly("uk", 16), hour_of("uk", 1, week=0)],
        {"shop": "uk"},
        value=-3.75,
    ),
    fires(
        "nothing sold at all",
        "revenue-drop",
        [RUNNING, *weekly("uk", 25)],
        {"shop": "uk"},
        value=-5,
    ),
    fires(
        "a shop is not made up for by another",
        "revenue-drop",
        [
            RUNNING,
            *weekly("uk", 100),
            *weekly("us", 100),
            hour_of("uk", 40, week=0),
            hour_of("us", 900, week=0),
        ],
        {"shop": "uk"},
        value=-6,
    ),
    fires(
        "a small shop is judged by six hours",
        "revenue-drop",
        [RUNNING, *weekly("uk", 6, hours=range(6))],
        {"shop": "uk"},
        value=-6,
    ),
    quiet(
        "a little less",
        "revenue-drop",
        [RUNNING, *weekly("uk", 16), hour_of("uk", 2, week=0)],
        -3.5,
        shop="uk",
    ),
    quiet(
        "the mean of the weeks that are known",
        "revenue-drop",
        [RUNNING, *weekly("uk", 16, weeks=4), hour_of("uk", 16, week=0)],
        0,
        shop="uk",
    ),
    quiet(
        "another hour of the day does not count",
        "revenue-drop",
        [RUNNING, *weekly("uk", 14, hours=(30,))],
        0,
        shop="none",
    ),
    quiet(
        "three weeks are no habit",
        "revenue-drop",
        [RUNNING, *weekly("uk", 100, weeks=3)],
        0,
        shop="none",
    ),
    quiet(
        "a few orders are no habit",
        "revenue-drop",
        [RUNNING, *weekly("uk", 14)],
        0,
        shop="none",
    ),
    quiet(
        "made-up history is no habit",
        "revenue-drop",
        [RUNNING, *weekly("uk", 100, partition=-1)],
        0,
        shop="none",
    ),
    quiet(
        "a pipeline that stands is no shop that does",
        "revenue-drop",
        [
            progress(before(hours=3)),
            *weekly("uk", 100, hours=(3,)),
            hour_of("uk", 100, week=0, hours_before=3),
        ],
        0,
        shop="uk",
    ),
    fires(
        "people look and do not buy",
        "purchases-per-view",
        [RUNNING, *looked_weekly("uk", 1_000, 20), *looked("uk", 1_000, 3, week=0)],
        {"shop": "uk"},
        value=-17 / sqrt(19.6),
    ),
    fires(
        "nobody buys in one of two shops",
        "purchases-per-view",
        [
            RUNNING,
            *looked_weekly("uk", 1_000, 20),
            *looked_weekly("us", 1_000, 20),
            *looked("uk", 1_000, 0, week=0),
            *looked("us", 1_000, 60, week=0),
        ],
        {"shop": "uk"},
        value=-20 / sqrt(19.6),
    ),
    quiet(
        "a shop where one in two hundred and fifty buys, as ever",
        "purchases-per-view",
        [RUNNING, *looked_weekly("uk", 10_000, 40), *looked("uk", 10_000, 40, week=0)],
        0,
        shop="uk",
    ),
    quiet(
        "too few look",
        "purchases-per-view",
        [RUNNING, *looked_weekly("uk", 1_000, 20), *looked("uk", 100, 0, week=0)],
        0,
        shop="none",
    ),
    quiet(
        "three weeks are no habit",
        "purchases-per-view",
        [RUNNING, *looked_weekly("uk", 1_000, 20, weeks=3), *looked("uk", 1_000, 0, week=0)],
        0,
        shop="none",
    ),
    fires(
        "nothing comes from one of two shops",
        "shop-silent",
        [
            RUNNING,
            *looked_weekly("uk", 100, 2),
            *looked_weekly("us", 100, 2),
            *looked("us", 1, 0, week=0),
        ],
        {"shop": "uk"},
        value=1,
    ),
    quiet(
        "an hour in which little comes anyway",
        "shop-silent",
        [RUNNING, *looked_weekly("uk", 27, 2)],
        0,
        shop="uk",
    ),
    quiet(
        "three weeks are no habit",
        "shop-silent",
        [RUNNING, *looked_weekly("uk", 100, 2, weeks=3)],
        0,
        shop="none",
    ),
    fires(
        "hours are ten minutes old",
        "rollup-stale",
        [job(before(minutes=10))],
        {},
        value=600,
    ),
    quiet("hours are four minutes old", "rollup-stale", [job(before(minutes=4))], 240),
    quiet("another job is old", "rollup-stale", [job(before(days=1), "retention")], 0),
    fires(
        "fifty of a thousand and one",
        "dead-letter-flood",
        [
            outcome(before(minutes=2), "accepted", 900),
            outcome(before(minutes=2), "rejected", 50, "INVALID"),
        ],
        {},
        value=50 / 950,
    ),
    quiet(
        "a third, but forty-nine",
        "dead-letter-flood",
        [
            outcome(before(minutes=2), "accepted", 98),
            outcome(before(minutes=2), "rejected", 49, "INVALID"),
        ],
        0,
    ),
    fires(
        "six of a hundred and six, and one is a purchase",
        "dead-letter-flood",
        [
            outcome(before(minutes=2), "accepted", 100),
            outcome(before(minutes=2), "rejected", 6, "INVALID"),
            refused(before(minutes=2), "PURCHASE"),
        ],
        {},
        value=6 / 106,
    ),
    quiet(
        "six of a hundred and six, and the purchase is an hour old",
        "dead-letter-flood",
        [
            outcome(before(minutes=2), "accepted", 100),
            outcome(before(minutes=2), "rejected", 6, "INVALID"),
            refused(before(minutes=2), "PAGE_VIEW"),
            refused(before(hours=1), "PURCHASE"),
        ],
        0,
    ),
    fires(
        "a quarter comes back",
        "refund-spike",
        [
            RUNNING,
            orders(NOW_EUR, "EUR", 1_000, refunds=10, refund_minor=250),
            orders(NOW_EUR, "GBP", 1_000, refunds=10),
        ],
        {"currency": "EUR"},
        value=0.25,
    ),
    fires(
        "refunds and no sale",
        "refund-spike",
        [RUNNING, orders(NOW_EUR, "EUR", 0, 0, refunds=10, refund_minor=250)],
        {"currency": "EUR"},
        value=1,
    ),
    quiet(
        "a fifth comes back",
        "refund-spike",
        [RUNNING, orders(NOW_EUR, "EUR", 1_000, refunds=10, refund_minor=200)],
        0.2,
        currency="EUR",
    ),
    quiet(
        "nine refunds",
        "refund-spike",
        [RUNNING, orders(NOW_EUR, "EUR", 100, refunds=9, refund_minor=100)],
        0,
        currency="EUR",
    ),
    fires(
        "searches find nothing",
        "zero-result-searches",
        [RUNNING, searched(before(minutes=5), 50, 10), searched(before(minutes=6), 50, 30, "hats")],
        {},
        value=0.4,
    ),
    quiet(
        "searches find something",
        "zero-result-searches",
        [RUNNING, searched(before(minutes=5), 100, 30)],
        0.3,
    ),
    quiet(
        "few searches", "zero-result-searches", [RUNNING, searched(before(minutes=5), 49, 49)], 0
    ),
    fires(
        "one in ten is refused",
        "dead-letter-share",
        [
            outcome(before(minutes=5), "accepted", 900),
            outcome(before(minutes=5), "rejected", 60, "INVALID"),
            outcome(before(minutes=5), "late", 40, "LATE"),
        ],
        {},
        value=0.1,
    ),
    quiet(
        "one in twenty is refused",
        "dead-letter-share",
        [
            outcome(before(minutes=5), "accepted", 950),
            outcome(before(minutes=5), "rejected", 50, "INVALID"),
        ],
        0.05,
    ),
    quiet(
        "duplicates are not refused",
        "dead-letter-share",
        [outcome(before(minutes=5), "accepted", 500), outcome(before(minutes=5), "duplicate", 500)],
        0,
    ),
    quiet(
        "an hour ago",
        "dead-letter-share",
        [outcome(before(hours=1), "rejected", 500, "INVALID")],
        0,
    ),
    quiet(
        "99 records",
        "dead-letter-share",
        [outcome(before(minutes=5), "rejected", 99, "INVALID")],
        0,
    ),
    fires(
        "phones were off",
        "late-share",
        [
            outcome(before(minutes=5), "accepted", 970),
            outcome(before(minutes=5), "late", 30, "LATE"),
        ],
        {},
        value=0.03,
    ),
    quiet(
        "refused for another reason",
        "late-share",
        [
            outcome(before(minutes=5), "accepted", 500),
            outcome(before(minutes=5), "rejected", 500, "INVALID"),
        ],
        0,
    ),
    fires(
        "a code that nobody knows",
        "new-reject-code",
        [
            OLD,
            outcome(before(minutes=30), "rejected", 3, "BAD_MAGIC"),
            outcome(before(minutes=30), "rejected", 9, "TRUNCATED"),
        ],
        {"code": "BAD_MAGIC"},
        value=3,
    ),
    fires(
        "a code that was forgotten",
        "new-reject-code",
        [
            OLD,
            outcome(before(days=8), "rejected", 3, "BAD_UTF8"),
            outcome(before(minutes=30), "rejected", 1, "BAD_UTF8"),
        ],
        {"code": "BAD_UTF8"},
        value=1,
    ),
    quiet(
        "a code of this week",
        "new-reject-code",
        [
            OLD,
            outcome(before(minutes=30), "rejected", 3, "TRUNCATED"),
            outcome(before(minutes=30), "accepted", 3),
        ],
        0,
        code="none",
    ),
    quiet(
        "the first day",
        "new-reject-code",
        [
            outcome(before(hours=20), "accepted", 5),
            outcome(before(minutes=30), "rejected", 3, "BAD_MAGIC"),
        ],
        0,
        code="none",
    ),
    fires(
        "a dimension breaks",
        "quality-score",
        [
            checked(before(minutes=5), "CURRENCY_MISSING", "completeness", 1_000, 60),
            checked(before(minutes=5), "EVENT_TIME_LATE", "timeliness", 1_000),
        ],
        {"dimension": "completeness"},
        value=0.94,
    ),
    fires(
        "one of many rules breaks",
        "quality-score",
        [
            checked(before(minutes=5), "CURRENCY_MISSING", "completeness", 1_000, 60),
            *(checked(before(minutes=5), f"R{n}", "completeness", 1_000) for n in range(16)),
        ],
        {"dimension": "completeness"},
        {"dimension": "overall"},
        value=0.94,
    ),
    quiet(
        "all is well",
        "quality-score",
        [
            checked(before(minutes=5), "CURRENCY_MISSING", "completeness", 1_000, 50),
            checked(before(minutes=5), "EVENT_TIME_LATE", "timeliness", 1_000),
        ],
        0.975,
        dimension="overall",
    ),
    fires(
        "a record without an outcome",
        "residue",
        [
            passed(before(minutes=5), 10),
            outcome(before(minutes=5), "accepted", 9),
        ],
        {},
        value=1,
    ),
    fires(
        "one too few here does not make up for one too many there",
        "residue",
        [
            passed(before(minutes=5), 10),
            outcome(before(minutes=5), "accepted", 9),
            passed(before(minutes=5), 10, partition=1),
            outcome(before(minutes=5), "accepted", 11, partition=1),
        ],
        {},
        value=2,
    ),
    fires(
        "no outcome at all",
        "residue",
        [passed(before(minutes=5), 10)],
        {},
        value=10,
    ),
    fires(
        "an accepted event that gold does not count",
        "gold-residue",
        [
            passed(before(minutes=5), 12, accepted=10),
            progress(NOON, accepted=10),
            counted(before(minutes=5), 9),
            traffic(before(minutes=5), "PAGE_VIEW", 9),
        ],
        {},
        value=1,
    ),
    fires(
        "a row of gold that somebody deleted",
        "gold-residue",
        [
            passed(before(minutes=5), 12, accepted=10),
            progress(NOON, accepted=10),
            counted(before(minutes=5), 10),
            traffic(before(minutes=5), "PAGE_VIEW", 7),
        ],
        {},
        value=3,
    ),
    quiet(
        "all are counted, and some are on their way",
        "gold-residue",
        [
            passed(before(minutes=5), 17, accepted=15),
            progress(NOON, accepted=10),
            counted(before(minutes=5), 10),
            traffic(before(minutes=5), "PAGE_VIEW", 10),
        ],
        0,
    ),
    fires("retention overtook a flow", "lost-records", [loss(200)], {}, value=200),
    quiet("nothing is lost", "lost-records", [], 0),
    quiet(
        "each has one",
        "residue",
        [
            passed(before(minutes=5), 10),
            outcome(before(minutes=5), "accepted", 7),
            outcome(before(minutes=5), "rejected", 2, "INVALID"),
            outcome(before(minutes=5), "duplicate", 1),
        ],
        0,
    ),
    quiet(
        "the newest minutes are on their way",
        "residue",
        [passed(before(minutes=2), 10)],
        0,
    ),
    quiet(
        "minutes from before offsets were counted",
        "residue",
        [outcome(before(minutes=5), "accepted", 9)],
        0,
    ),
    fires(
        "six minutes old, and last week people came at this hour",
        "freshness",
        [
            progress(before(minutes=6)),
            progress(before(minutes=9), 1),
            traffic(before(days=7, minutes=20), "PAGE_VIEW", 90),
            traffic(before(days=6, hours=23, minutes=40), "SEARCH", 60),
        ],
        {},
        value=360,
    ),
    quiet(
        "one partition is fresh",
        "freshness",
        [
            progress(before(minutes=5)),
            progress(before(days=1), 1),
            traffic(before(days=7), "PAGE_VIEW", 180),
        ],
        300,
    ),
    fires(
        "accepted events wait, whatever people did last week",
        "freshness",
        [passed(before(minutes=5), 17, accepted=15), progress(before(minutes=7), accepted=10)],
        {},
        value=420,
    ),
    fires(
        "a quiet shop is missed later",
        "freshness",
        [progress(before(minutes=30)), traffic(before(days=7), "PAGE_VIEW", 30)],
        {},
        value=1800,
    ),
    quiet(
        "a quiet shop in a quiet hour",
        "freshness",
        [progress(before(minutes=30)), traffic(before(days=7), "PAGE_VIEW", 29)],
        0,
    ),
    quiet(
        "synthetic history is nobody's habit",
        "freshness",
        [progress(before(hours=9)), traffic(before(days=7), "PAGE_VIEW", 99, partition=-1)],
        0,
    ),
]


def results(
    reader: psycopg.Connection[Any], slug: str, now: datetime = NOON
) -> dict[Labels, Result]:
    return evaluate(
        RULES[f"shopstream-{slug}"], now, lambda model, start, end: ask(reader, model, start, end)
    )


def key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def check(case: Case, reader: psycopg.Connection[Any]) -> None:
    outcomes = results(reader, case.rule)
    about = f"{case.rule}, {case.name}: {outcomes}"
    assert {labels for labels, r in outcomes.items() if r.state is State.ALERTING} == {
        key(f) for f in case.firing
    }, about
    assert {r.state for r in outcomes.values()} <= {State.ALERTING, State.NORMAL}, about
    assert case.about is not None
    assert outcomes[key(case.about)].value == pytest.approx(case.value), about


def test_every_sql_alert_has_rows_that_fire_it_and_rows_that_do_not() -> None:
    assert (
        {c.rule for c in CASES if c.firing}
        == {c.rule for c in CASES if not c.firing}
        == set(SQL_RULES)
    )


@pytest.mark.parametrize("slug", SQL_RULES)
def test_an_alert_fires_on_what_it_is_about_and_on_nothing_else(
    slug: str, database: Database
) -> None:
    with database.connect() as owner, grafana_session(database) as reader:
        for case in (c for c in CASES if c.rule == slug):
            with owner.transaction(force_rollback=False):
                insert(owner, case.rows)
            check(case, reader)
            for table in {table.name for table, _ in case.rows}:
                owner.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(*table.split("."))))


def test_a_limit_that_was_moved_holds_for_its_shop_and_no_other(database: Database) -> None:
    rows = [RUNNING, *weekly("uk", 16), *weekly("us", 16)]
    with database.connect() as owner, grafana_session(database) as reader:
        insert(owner, rows)
        uk, us, late = key({"shop": "uk"}), key({"shop": "us"}), "late-share"
        fired = results(reader, "revenue-drop")
        assert (fired[uk].state, fired[us].state) == (State.ALERTING, State.ALERTING)
        set_limit(owner, "revenue-drop", "uk", -4.5)
        after = results(reader, "revenue-drop")
        assert (after[uk].state, after[us].state) == (State.NORMAL, State.ALERTING)
        set_limit(owner, "revenue-drop", "", -5)
        set_limit(owner, "revenue-drop", "uk", -3)
        after = results(reader, "revenue-drop")
        assert (after[uk].state, after[us].state) == (State.ALERTING, State.NORMAL)
        assert reset_limit(owner, "revenue-drop", "uk")
        assert results(reader, "revenue-drop")[uk].state is State.NORMAL
        insert(owner, [outcome(before(minutes=2), "late", 10, "LATE")])
        insert(owner, [outcome(before(minutes=2), "accepted", 990)])
        assert results(reader, late)[()].state is State.NORMAL
        set_limit(owner, late, "", 0.005)
        assert results(reader, late)[()].state is State.ALERTING


def test_an_empty_database_is_what_the_rules_say_it_is(database: Database) -> None:
    """Every rule has a row there, and none is an alert: a shop that has not begun is not silent."""
    with grafana_session(database) as reader:
        for slug in SQL_RULES:
            outcomes = results(reader, slug)
            assert {r.state for r in outcomes.values()} == {State.NORMAL}, slug
            watch = Watch(RULES[f"shopstream-{slug}"])
            after = [
                watch.look(results(reader, slug), NOON + timedelta(minutes=m)) for m in range(4)
            ]
            assert set(after[-1].values()) == {State.NORMAL}, slug


def test_an_alert_waits_for_its_time_and_ends_at_once(database: Database) -> None:
    rule = RULES["shopstream-dead-letter-share"]
    with database.connect() as owner, grafana_session(database) as reader:
        insert(owner, [outcome(before(minutes=1), "rejected", 500, "INVALID")])
        watch = Watch(rule)
        looks = [
            watch.look(
                results(reader, "dead-letter-share", NOON + timedelta(minutes=m)),
                NOON + timedelta(minutes=m),
            )
            for m in range(20)
        ]
    states = [state[()] for state in looks]
    assert rule["for"] == "300s"
    # the newest minute still fills; then it counts for a quarter of an hour, of which five minutes
    # are waited
    assert (
        states == [State.NORMAL] + [State.PENDING] * 5 + [State.ALERTING] * 10 + [State.NORMAL] * 4
    )


def test_a_query_that_fails_is_what_the_rules_say_it_is(database: Database) -> None:
    with database.connect() as owner, grafana_session(database) as reader:
        owner.execute(
            "REVOKE SELECT ON ALL TABLES IN SCHEMA gold, quality, ops FROM shopstream_reader"
        )
        for slug in SQL_RULES:
            outcomes = results(reader, slug)
            assert outcomes == {(): Result(State.ERROR)}, slug
            rule = RULES[f"shopstream-{slug}"]
            expected = {"Error": State.ERROR, "KeepLast": State.NORMAL}[rule["execErrState"]]
            assert Watch(rule).look(outcomes, NOON) == {(): expected}


def test_a_failed_query_keeps_an_alert_as_it_was() -> None:
    watch = Watch(RULES["shopstream-revenue-drop"])
    euros = key({"currency": "EUR"})
    for minute in range(11):
        watch.look({euros: Result(State.ALERTING, -1)}, NOON + timedelta(minutes=minute))
    assert watch.look({(): Result(State.ERROR)}, NOON + timedelta(minutes=11)) == {
        euros: State.ALERTING
    }
