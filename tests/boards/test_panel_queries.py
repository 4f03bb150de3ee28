"""Every SQL of every panel, variable and annotation, as Grafana sends it, on a real database.

The session is that of Grafana's role. Kinds of server, queries, ranges and choices of variables
meet pairwise: each query with each range, each range with each choice, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from grafana.boards import BOARDS
from grafana.dashboard import annotation_queries
from grafana.macros import Surroundings, Value, expand
from grafana.queries import Column, Format, Sql
from grafana.to_grafana import queries_of
from tests.support.pairwise import pairwise
from tests.support.shop_database import Shop

TYPES = {
    Column.TIME: {"timestamptz"},
    Column.TEXT: {"text"},
    Column.NUMBER: {"int4", "int8", "numeric", "float8"},
}
MOST_ROWS = 5_000


@dataclass(frozen=True)
class Case:
    """A query, and whether rows must come where the seeded shop has data."""

    name: str
    query: Sql
    rows: bool = True
    without: tuple[str, ...] = ()  # ranges in which there is nothing to see
    rare: bool = False  # may have nothing to show for a part of the shop


def cases() -> Iterator[Case]:
    for board in BOARDS:
        for panel in board.panels:
            for query in queries_of(panel):
                if isinstance(query, Sql):
                    # eight days are seeded: nothing lies before thirty
                    compares = (
                        "before" in str(query.columns)
                        or " vs " in panel.title
                        or panel.title == "Silent shops"
                    )
                    yield Case(
                        f"{board.uid}: {panel.title}: {query.ref}",
                        query,
                        panel.title not in UNSEEDED,
                        without=("thirty days",) if compares else (),
                        rare=compares or panel.title in RARE,
                    )
        for variable in board.variables:
            yield Case(f"{board.uid}: ${variable.name}", variable.query)
    for kind, query in annotation_queries():
        yield Case(f"annotation {kind}", query, kind in ("deployment", "restart"), ("an hour",))


UNSEEDED = ("Roll-up age", "Sealed changes")
RARE = ("Looked at, not bought", "Carts now", "Checkouts now")
CASES = tuple(cases())

ALL = {v.name: Value(v.column, raw=True, text="All") for b in BOARDS for v in b.variables if v.many}
STATES = {
    "all": {**ALL, "currency": Value("EUR")},
    "one": {
        "shop": Value(("shop-uk",)),
        "product": Value(("p-0007",)),
        "country": Value(("GB",)),
        "channel": Value(("SEARCH",)),
        "device": Value(("MOBILE",)),
        "currency": Value("GBP"),
        "code": Value(("INVALID",)),
    },
    "many, with a quote": {
        "shop": Value(("shop o'neill", "shop-eu")),
        "product": Value(("p'1", "p-0007", "p-0001")),
        "country": Value(("KW", "DE")),
        "channel": Value(("ADS", "DIRECT")),
        "device": Value(("MOBILE", "DESKTOP")),
        "currency": Value("KWD"),
        "code": Value(("INVALID", "LATE")),
    },
}
RANGES = {
    "an hour": (timedelta(hours=1), timedelta(0)),
    "six hours": (timedelta(hours=6), timedelta(0)),
    "seven days": (timedelta(days=7), timedelta(0)),
    "thirty days": (timedelta(days=30), timedelta(0)),
}
ODD = {
    "the future": (timedelta(hours=6), timedelta(days=3)),
    "the wrong way round": (-timedelta(hours=6), timedelta(0)),
    "long ago": (timedelta(hours=6), -timedelta(days=4_000)),
    "a moment": (timedelta(seconds=5), timedelta(0)),
}


def around(shop: Shop, span: tuple[timedelta, timedelta], state: str) -> Surroundings:
    length, shift = span
    end = shop.end + shift + timedelta(seconds=37)  # nobody looks on the minute
    return Surroundings(end - length, end, STATES[state])


def run(
    shop: Shop, case: Case, surroundings: Surroundings
) -> tuple[list[psycopg.Column], list[tuple[Any, ...]]]:
    cursor = shop.reader.execute(expand(case.query.text, surroundings).encode())
    return list(cursor.description or ()), cursor.fetchall()


def types(shop: Shop, columns: list[psycopg.Column]) -> list[str]:
    return [shop.reader.adapters.types[c.type_code].name for c in columns]


def ids(rows: list[tuple[Any, ...]]) -> list[str]:
    return ["-".join(v.name if isinstance(v, Case) else v for v in row) for row in rows]


KINDS = ("plain", "timescale")
LOOKS = pairwise(KINDS, CASES, tuple(RANGES), tuple(STATES))
ODD_LOOKS = pairwise(KINDS, CASES, tuple(ODD))
EMPTY_LOOKS = pairwise(KINDS, CASES, ("", "GBP"))


@pytest.mark.parametrize(("kind", "case", "span", "state"), LOOKS, ids=ids(LOOKS))
def test_a_query_returns_its_columns_and_rows(
    shop: Shop, case: Case, span: str, state: str
) -> None:
    columns, rows = run(shop, case, around(shop, RANGES[span], state))
    check_shape(shop, case, columns)
    if case.rows and span not in case.without and not (case.rare and state != "all"):
        assert rows, "no rows where there is data"
        assert any(value is not None for row in rows for value in row)
    assert len(rows) <= MOST_ROWS
    if case.query.format is Format.SERIES:
        times = [row[0] for row in rows]
        assert times == sorted(times)
        assert len({row[: label_columns(case.query)] for row in rows}) == len(rows)


def label_columns(query: Sql) -> int:
    """How many columns tell the points of a series apart: its time, and its name if it has one."""
    return 1 + (list(query.columns.values())[1:2] == [Column.TEXT])


@pytest.mark.parametrize(("kind", "case", "span"), ODD_LOOKS, ids=ids(ODD_LOOKS))
def test_an_odd_range_is_no_error(shop: Shop, case: Case, span: str) -> None:
    columns, _ = run(shop, case, around(shop, ODD[span], "all"))
    check_shape(shop, case, columns)


@pytest.mark.parametrize(("kind", "case", "currency"), EMPTY_LOOKS, ids=ids(EMPTY_LOOKS))
def test_an_empty_database_is_no_error(empty: Shop, case: Case, currency: str) -> None:
    surroundings = Surroundings(
        empty.end - timedelta(hours=6), empty.end, {**ALL, "currency": Value(currency)}
    )
    columns, rows = run(empty, case, surroundings)
    check_shape(empty, case, columns)
    assert len(rows) <= 1


def check_shape(shop: Shop, case: Case, columns: list[psycopg.Column]) -> None:
    assert [c.name for c in columns] == list(case.query.columns)
    for name, kind, wanted in zip(
        case.query.columns, types(shop, columns), case.query.columns.values(), strict=True
    ):
        assert kind in TYPES[wanted], f"{name} is {kind}"
    if case.query.format is Format.SERIES:
        assert columns[0].name == "time"


def test_the_reader_can_change_nothing(shop: Shop) -> None:
    for statement in ("DELETE FROM ops.annotations", "CREATE TABLE gold.mine (n integer)"):
        with pytest.raises(
            (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
        ):
            shop.reader.execute(statement.encode())
