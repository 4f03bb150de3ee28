"""Pictures write values as Grafana does, and their command says what it lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from grafana.panels import Unit
from tools.pictures.__main__ import main
from tools.pictures.formats import formatted
from tools.pictures.view import reduced

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (None, Unit.WHOLE, 0, "-"),
        (float("nan"), Unit.RATIO, 1, "-"),
        ("shop-uk", Unit.WHOLE, 0, "shop-uk"),
        (NOON, Unit.TIME, 0, "2026-03-01 12:00:00"),
        (0.1234, Unit.RATIO, 1, "12.3 %"),
        (1_234_567, Unit.WHOLE, 0, "1,234,567"),
        (12, Unit.RATE, 1, "12.0 rec/s"),
        (500 * 2**20, Unit.BYTES, 0, "500 MiB"),
        (0.25, Unit.SECONDS, 2, "250 ms"),
        (0, Unit.SECONDS, 0, "0 s"),
        (5_400, Unit.SECONDS, 1, "1.5 hours"),
        (0.95, Unit.PLAIN, 2, "0.95"),
        (-1_234.5, "currencyGBP", 2, "-£1.23K"),
        (9.5, "currency:KWD ", 2, "KWD 9.50"),
    ],
)
def test_a_value_is_written_as_grafana_writes_it(
    value: Any, unit: str, decimals: int, text: str
) -> None:
    assert formatted(value, unit, decimals) == text


@pytest.mark.parametrize(
    ("calc", "number"), [("sum", 6), ("lastNotNull", 4), ("max", 4), ("min", 2), ("mean", 3)]
)
def test_a_series_is_reduced_over_the_points_that_it_has(calc: str, number: float) -> None:
    values = (2, None, 4, float("nan"))
    points = [(NOON + timedelta(minutes=i), value) for i, value in enumerate(values)]
    assert reduced(points, calc) == number
    assert reduced([], calc) is None


def test_without_a_database_the_command_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main([]) == 2
    assert "--database or DATABASE_URL" in capsys.readouterr().err
