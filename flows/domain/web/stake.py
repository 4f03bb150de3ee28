"""What a refused purchase was worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flows.domain.family import Stake
from flows.domain.web.rules import MAX_PRICE_MINOR, MAX_QUANTITY

CURRENCY = re.compile("[A-Z]{3}")


def stake(event: Mapping[str, Any]) -> Stake | None:
    """Sum up a purchase as far as it can be trusted; None for any other event.

    An item with a quantity or a price out of its valid range counts nothing: what it says is not
    what somebody would have paid.
    """
    if event["event_type"] != "PURCHASE":
        return None
    amount = sum(
        item["quantity"] * item["unit_price_minor"]
        for item in event["items"]
        if 0 < item["quantity"] <= MAX_QUANTITY and 0 <= item["unit_price_minor"] <= MAX_PRICE_MINOR
    )
    currency = event["currency"] or ""
    return Stake(amount, currency if CURRENCY.fullmatch(currency) else "")
