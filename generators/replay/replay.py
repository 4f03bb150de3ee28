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
from generators.sending.encoding import Encoding, partition_of

INVOICES = uuid.uuid5(uuid.NAMESPACE_URL, "https://archive.ics.uci.edu/dataset/352/online+retail")
SHOP = "online-retail"
_CHUNK_RECORDS = 512


def invoice_event(invoice: Invoice) -> dict[str, Any]:
    """Map an invoice to one event.

    The id is a UUID of the invoice number, so that a file played twice gives the same events. A
    number with `C` is a cancellation: a refund of positive quantities, of the order without the
    `C`. The data set knows no page, channel, device or category, and its prices are in pounds.
    """
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
    invoices: Sequence[Invoice], encoding: Encoding, partitions: int, terms: Terms, speed: float
) -> Iterator[Records]:
    """Write invoices in the order of the file, each with its verdict.

    Time: an invoice is due at its own time at the given speed; one that is older than the one
    before it is due together with that one.
    State: one watermark per partition. Ids do not repeat, since an invoice number is one event.
    """
    first_ms = invoices[0].time_ms
    newest_ms = first_ms
    watermarks: dict[int, int] = {}
    for start in range(0, len(invoices), _CHUNK_RECORDS):
        chunk = invoices[start : start + _CHUNK_RECORDS]
        events: list[dict[str, Any] | None] = []
        keys: list[bytes] = []
        values: list[bytes | None] = []
        verdicts: list[Verdict] = []
        due: list[int] = []
        partition = np.zeros(len(chunk), dtype=np.int32)
        for n, invoice in enumerate(chunk):
            event = invoice_event(invoice)
            key, value = event["visitor_id"].encode(), encoding.value(event)
            partition[n] = partition_of(key, partitions)
            verdict = _judge(event, value, int(partition[n]), watermarks, terms)
            newest_ms = max(newest_ms, invoice.time_ms)
            due.append(int((newest_ms - first_ms) * 1000 / (speed or 1.0)))
            keys.append(key)
            values.append(value)
            verdicts.append(verdict)
            events.append(None if verdict.code == "TOO_LARGE" else event)
        answers = Answers(None, np.arange(len(chunk)), events, [""] * len(chunk), verdicts)
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
