"""`shopstream thresholds`, as an operator uses it: shown, moved for all or for a shop, put back."""

from __future__ import annotations

import pytest

from database.thresholds import LIMITS
from tests.support.alert_rows import day_of, insert
from tests.support.commands import shopstream
from tests.support.databases import Database


def thresholds(database: Database, *words: str) -> tuple[int, str, str]:
    ran = shopstream(database, "thresholds", *words)
    return ran.code, ran.out, ran.error


def line_of(name: str, shown: str) -> str:
    (line,) = (line for line in shown.splitlines() if line.startswith(f"{name} "))
    return " ".join(line.split())


def test_a_limit_is_shown_moved_and_put_back(database: Database) -> None:
    with database.connect() as db:
        insert(db, [day_of("uk", 1, table="traffic")])
    code, shown, _ = thresholds(database)
    assert code == 0
    assert len(shown.splitlines()) == len(LIMITS)
    code, shown, _ = thresholds(database, "set", "revenue-drop", "-5")
    assert code == 0
    assert line_of("revenue-drop", shown).endswith("; shipped: -3.7")
    code, shown, _ = thresholds(database, "set", "revenue-drop", "-4.2", "--shop", "uk")
    assert "-4.2 in uk" in " ".join(shown.split())
    assert thresholds(database, "list")[1] == shown
    thresholds(database, "reset", "revenue-drop", "--shop", "uk")
    _, shown, _ = thresholds(database, "reset", "revenue-drop")
    assert "in uk" not in shown
    assert "shipped" not in shown
    assert "has no limit of its own" in thresholds(database, "reset", "late-share")[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("set", "revenue-dorp", "1"), "ConfigError: no limit 'revenue-dorp': revenue-drop, "),
        (("set", "late-share", "nan"), "ConfigError: nan is no limit"),
        (("set", "late-share", "1", "--shop", "uk"), "ConfigError: late-share does not look at"),
        (("set", "revenue-drop", "-5", "--shop", "de"), "ConfigError: no shop 'de' has been seen"),
    ],
)
def test_what_no_alert_would_read_is_refused(
    database: Database, words: tuple[str, ...], complaint: str
) -> None:
    code, _, error = thresholds(database, *words)
    assert (code, error.startswith(complaint)) == (2, True), error
    with database.connect() as db:
        assert db.execute("SELECT count(*) FROM ops.thresholds").fetchone() == (0,)
