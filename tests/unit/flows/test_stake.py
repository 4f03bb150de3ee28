"""What a refused purchase was worth, as far as it can be trusted."""

from __future__ import annotations

from typing import Any

import pytest

from flows.domain.family import Stake
from flows.domain.web import WEB


def item(quantity: int, price: int) -> dict[str, Any]:
    return {"quantity": quantity, "unit_price_minor": price}


@pytest.mark.parametrize(
    ("event", "stake"),
    [
        (("PURCHASE", "GBP", [item(2, 1_050), item(1, 99)]), Stake(2_199, "GBP")),
        (("PURCHASE", "JPY", []), Stake(0, "JPY")),
        (("PURCHASE", None, [item(1, 5)]), Stake(5, "")),
        (("PURCHASE", "pounds", [item(1, 5)]), Stake(5, "")),
        (("PURCHASE", "GBP", [item(-3, 1_000), item(1, -7), item(1, 40)]), Stake(40, "GBP")),
        (("PURCHASE", "GBP", [item(2**31 - 1, 2**62), item(1, 3)]), Stake(3, "GBP")),
        (("REFUND", "GBP", [item(1, 5)]), None),
        (("PAGE_VIEW", None, []), None),
    ],
)
def test_a_purchase_is_worth_its_items_within_the_valid_range(
    event: tuple[str, str | None, list[dict[str, Any]]], stake: Stake | None
) -> None:
    kind, currency, items = event
    assert WEB.stake({"event_type": kind, "currency": currency, "items": items}) == stake
