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

    Quantities and prices count within their valid range, as the rules read them.
    """
    if event["event_type"] != "PURCHASE":
        return None
    amount = sum(
        min(max(item["quantity"], 0), MAX_QUANTITY)
        * min(max(item["unit_price_minor"], 0), MAX_PRICE_MINOR)
        for item in event["items"]
    )
    currency = event["currency"] or ""
    return Stake(amount, currency if CURRENCY.fullmatch(currency) else "")
