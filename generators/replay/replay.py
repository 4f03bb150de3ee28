"""Turn invoices into records, each with its verdict."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from generators.answer_key.oracle import Terms
from generators.answer_key.verdicts import (
    IS_ACCEPTED,
    IS_LATE,
    MAX_RECORD_BYTES,
    REJECTED,
    Verdict,
    judge_rules,
)
from generators.records import Answers, Records
from generators.replay.invoices import Invoice
from generators.sending.encoding import Wire, partition_of

INVOICES = uuid.uuid5(uuid.NAMESPACE_URL, "https://archive.ics.uci.edu/dataset/352/online+retail")
SHOP = "online-retail"
_STRETCH = 512


def invoice_event(invoice: Invoice) -> dict[str, Any]:
    """Map an invoice to an event. Source: issue 3, "Real input"."""
    refund = invoice.number.startswith("C")
    order = invoice.number.removeprefix("C")
    return {
        "event_id": str(uuid.uuid5(INVOICES, invoice.number)),
        "event_type": "REFUND" if refund else "PURCHASE",
        "event_time": invoice.time_ms,
        "visitor_id": f"customer-{invoice.customer}"
        if invoice.customer
        else f"guest-{invoice.number}",
        "customer_id": invoice.customer,
        "shop_id": SHOP,
        "page": None,
        "channel": "UNKNOWN",
        "search_query": None,
        "search_results": None,
        "order_id": order,
        "currency": "GBP",
        "discount_minor": None,
        "tax_minor": None,
        "shipping_minor": None,
        "device": "UNKNOWN",
        "country": invoice.country,
        "items": [
            {
                "product_id": line.stock_code,
                "category": "unknown",
                "quantity": abs(line.quantity) if refund else line.quantity,
                "unit_price_minor": line.price_minor,
            }
            for line in invoice.lines
        ],
        "app_version": None,
    }


def invoice_records(
    invoices: Sequence[Invoice], wire: Wire, partitions: int, terms: Terms, speed: float
) -> Iterator[Records]:
    """Write invoices in the order of the file.

    Time: an invoice is due at its own time at the given speed; one that is older than its
    forerunner is due with it.
    State: a watermark a partition. Ids do not repeat: an invoice number is one event.
    """
    first_ms = invoices[0].time_ms
    newest_ms = first_ms
    watermarks: dict[int, int] = {}
    for start in range(0, len(invoices), _STRETCH):
        part = invoices[start : start + _STRETCH]
        events: list[dict[str, Any] | None] = []
        keys: list[bytes] = []
        values: list[bytes | None] = []
        verdicts: list[Verdict] = []
        due: list[int] = []
        partition = np.zeros(len(part), dtype=np.int32)
        for n, invoice in enumerate(part):
            event = invoice_event(invoice)
            key, value = event["visitor_id"].encode(), wire.value(event)
            partition[n] = partition_of(key, partitions)
            verdict = _judge(event, value, int(partition[n]), watermarks, terms)
            newest_ms = max(newest_ms, invoice.time_ms)
            due.append(int((newest_ms - first_ms) * 1000 / (speed or 1.0)))
            keys.append(key)
            values.append(value)
            verdicts.append(verdict)
            events.append(None if verdict.code == "TOO_LARGE" else event)
        answers = Answers(None, np.arange(len(part)), events, [""] * len(part), verdicts)
        yield Records(keys, values, partition, np.array(due, dtype=np.int64), answers)


def _judge(
    event: dict[str, Any], value: bytes, partition: int, watermarks: dict[int, int], terms: Terms
) -> Verdict:
    if len(value) > MAX_RECORD_BYTES:
        return Verdict(REJECTED, "TOO_LARGE")
    refused = judge_rules(event, terms.latest_ms, terms.tolerance_ms)
    if refused is not None:
        return refused
    watermark = watermarks.get(partition, event["event_time"])
    watermarks[partition] = max(watermark, event["event_time"])
    return IS_LATE if event["event_time"] < watermark - terms.lateness_ms else IS_ACCEPTED
