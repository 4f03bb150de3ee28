"""What a person reads while a demo runs."""

from __future__ import annotations

import time

import pytest

from shopstream.demo.stored_numbers import amount
from shopstream.demo.working import REPEAT_SECONDS, working


def test_whoever_waits_hears_at_once_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    with working("making tables", repeat_seconds=0.05):
        assert capsys.readouterr().out == "making tables ...\n"
        time.sleep(0.3)
        assert "  making tables: 0 s\n" in capsys.readouterr().out
    capsys.readouterr()
    time.sleep(0.15)
    assert capsys.readouterr().out == "", "it is over"
    assert REPEAT_SECONDS < 5


@pytest.mark.parametrize(
    ("minor", "digits", "currency", "text"),
    [
        (123456, 2, "GBP", "1,234.56 GBP"),
        (1000, 0, "XOF", "1,000 XOF"),
        (1234, 3, "KWD", "1.234 KWD"),
        (5, 4, "CLF", "0.0005 CLF"),
        (-5, 2, "EUR", "-0.05 EUR"),
        (9_007_199_254_740_993, 2, "USD", "90,071,992,547,409.93 USD"),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(
    minor: int, digits: int, currency: str, text: str
) -> None:
    assert amount(minor, digits, currency) == text
