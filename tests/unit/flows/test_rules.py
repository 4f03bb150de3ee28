"""Each rule by hand: one event that breaks it and nothing else it should not, and one at the
boundary that passes."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.connectors.avro import schemas
from flows.connectors.avro.decode import Decoder
from flows.domain.batch import utc
from flows.domain.codes import QualityDimension
from flows.domain.families import RULES
from flows.domain.rules import JUDGED_RULES
from flows.domain.text import WHITESPACE
from flows.domain.validate import Validator
from flows.domain.web import WEB
from flows.domain.web.metrics import SEARCHES_1M
from flows.domain.web.rules import EVENT_RULES, ITEM_RULES
from tests.support.batches import batch_of
from tests.support.plain_oracle import broken_rules
from tests.support.web_events import NOON, V2, event, item

TOLERANCE = 10_000
MAX_BYTES = 1_000_000


def broken(sample: dict[str, Any]) -> set[str]:
    """The rules that an event breaks when Kafka takes it at noon."""
    decoder = Decoder(WEB, schemas.ConfluentIds(None), MAX_BYTES)
    decoded = decoder.decode(batch_of([V2.frame(sample)]))
    events = decoded.events.with_columns(
        utc(pl.Series([NOON + TOLERANCE]).to_numpy(), "newest_allowed")
    )
    return {name for name, rows in Validator(WEB).validate(events).broken.items() if rows[0]}


def of(kind: str, **changes: Any) -> dict[str, Any]:
    return event(kind, **changes)


DEAREST = item(quantity=100_000, unit_price_minor=10_000_000)
# rule -> an event that breaks it alone, and one as near to it as can be that does not
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "EVENT_ID_MISSING": (of("CHECKOUT", event_id=""), of("CHECKOUT")),
    "VISITOR_ID_MISSING": (of("CHECKOUT", visitor_id=""), of("CHECKOUT", visitor_id=" ")),
    "SHOP_ID_MISSING": (of("CHECKOUT", shop_id=""), of("CHECKOUT", shop_id="x")),
    "ORDER_ID_MISSING": (of("PURCHASE", order_id=None), of("CHECKOUT", order_id=None)),
    "CURRENCY_MISSING": (of("REFUND", currency=""), of("CHECKOUT", currency="")),
    "ITEMS_MISSING": (of("ADD_TO_CART", items=[]), of("PAGE_VIEW", items=[])),
    "SEARCH_QUERY_MISSING": (
        of("SEARCH", search_query="\u3000 \t\x1f"),
        of("SEARCH", search_query=" x "),
    ),
    "PRODUCT_ID_MISSING": (
        of("PAGE_VIEW", items=[item(), item(product_id="")]),
        of("PAGE_VIEW", items=[item(product_id="0")]),
    ),
    "EVENT_ID_NOT_UUID": (
        of("CHECKOUT", event_id="0000000000000000000000000000000000ff"),
        of("CHECKOUT", event_id="ABCDEFab-0000-0000-0000-000000000000"),
    ),
    "EVENT_TYPE_UNKNOWN": (of("UNKNOWN"), of("PAGE_VIEW")),
    "COUNTRY_SHAPE": (of("CHECKOUT", country="DEU"), of("CHECKOUT", country="ZZ")),
    "CURRENCY_SHAPE": (of("PURCHASE", currency="eur"), of("PURCHASE", currency="XXX")),
    "QUANTITY_OUT_OF_RANGE": (
        of("PAGE_VIEW", items=[item(quantity=100_001)]),
        of("PAGE_VIEW", items=[item(quantity=100_000)]),
    ),
    "PRICE_OUT_OF_RANGE": (
        of("PAGE_VIEW", items=[item(unit_price_minor=10_000_001)]),
        of("PAGE_VIEW", items=[item(unit_price_minor=10_000_000)]),
    ),
    "DISCOUNT_NEGATIVE": (of("PURCHASE", discount_minor=-1), of("PURCHASE", discount_minor=0)),
    "TAX_NEGATIVE": (of("PURCHASE", tax_minor=-1), of("PURCHASE", tax_minor=0)),
    "SHIPPING_NEGATIVE": (of("PURCHASE", shipping_minor=-1), of("PURCHASE", shipping_minor=0)),
    "SEARCH_RESULTS_NEGATIVE": (of("SEARCH", search_results=-1), of("SEARCH", search_results=0)),
    "VISITOR_ID_TOO_LONG": (
        of("CHECKOUT", visitor_id="é" * 129),
        of("CHECKOUT", visitor_id="é" * 128),
    ),
    "CUSTOMER_ID_TOO_LONG": (
        of("CHECKOUT", customer_id="é" * 129),
        of("CHECKOUT", customer_id="é" * 128),
    ),
    "SHOP_ID_TOO_LONG": (of("CHECKOUT", shop_id="é" * 65), of("CHECKOUT", shop_id="é" * 64)),
    "ORDER_ID_TOO_LONG": (of("PURCHASE", order_id="é" * 65), of("PURCHASE", order_id="é" * 64)),
    "PAGE_TOO_LONG": (of("CHECKOUT", page="é" * 2049), of("CHECKOUT", page="é" * 2048)),
    "SEARCH_QUERY_TOO_LONG": (
        of("SEARCH", search_query="é" * 257),
        of("SEARCH", search_query="é" * 256),
    ),
    "APP_VERSION_TOO_LONG": (
        of("CHECKOUT", app_version="é" * 65),
        of("CHECKOUT", app_version="é" * 64),
    ),
    "PRODUCT_ID_TOO_LONG": (
        of("PAGE_VIEW", items=[item(product_id="é" * 65)]),
        of("PAGE_VIEW", items=[item(product_id="é" * 64)]),
    ),
    "CATEGORY_TOO_LONG": (
        of("PAGE_VIEW", items=[item(category="é" * 65)]),
        of("PAGE_VIEW", items=[item(category="é" * 64)]),
    ),
    "TEXT_HAS_NUL": (
        of("PAGE_VIEW", items=[item(), item(category="a\0")]),
        of("PAGE_VIEW", items=[item(category="a\x01")]),
    ),
    "DISCOUNT_ABOVE_TOTAL": (
        of("PURCHASE", discount_minor=2_501),
        of("PURCHASE", discount_minor=2_500),
    ),
    "TOO_MANY_ITEMS": (
        of("PAGE_VIEW", items=[item()] * 10_001),
        of("PAGE_VIEW", items=[item()] * 10_000),
    ),
    "ORDER_TOTAL_TOO_LARGE": (
        of("PURCHASE", items=[DEAREST, item(quantity=1, unit_price_minor=1)]),
        of("PURCHASE", items=[DEAREST]),
    ),
    "AMOUNT_TOO_LARGE": (
        of("PURCHASE", shipping_minor=10**12 + 1),
        of("PURCHASE", tax_minor=10**12, shipping_minor=10**12),
    ),
    "EVENT_TIME_TOO_OLD": (
        of("CHECKOUT", event_time=946_684_799_999),
        of("CHECKOUT", event_time=946_684_800_000),
    ),
    "EVENT_TIME_FUTURE": (
        of("CHECKOUT", event_time=NOON + TOLERANCE + 1),
        of("CHECKOUT", event_time=NOON + TOLERANCE),
    ),
}
JUDGED = {
    "RECORD_MISSING",
    "RECORD_UNREADABLE",
    "RECORD_TOO_LARGE",
    "EVENT_TIME_LATE",
    "EVENT_ID_CONFLICT",
    "EVENT_ID_REPEATED",
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_a_rule_is_broken_on_one_side_of_its_boundary_only(rule: str) -> None:
    breaking, passing = EXAMPLES[rule]
    assert broken(breaking) == {rule} == broken_rules(breaking, NOON, TOLERANCE)
    assert broken(passing) == set() == broken_rules(passing, NOON, TOLERANCE)


def test_every_rule_has_an_example_here() -> None:
    assert set(RULES) == set(EXAMPLES) | JUDGED


def test_the_rules_span_the_six_dimensions() -> None:
    assert len(EVENT_RULES) + len(ITEM_RULES) + len(JUDGED_RULES) >= 15
    assert {rule.dimension for rule in RULES.values()} == set(QualityDimension)
    assert len(QualityDimension) == 6


def test_all_broken_rules_are_told_not_the_first() -> None:
    sample = event(
        country="de",
        tax_minor=-1,
        items=[item(product_id="", quantity=0), item(unit_price_minor=-5)],
        currency=None,
    )
    assert broken(sample) == {
        "COUNTRY_SHAPE",
        "TAX_NEGATIVE",
        "PRODUCT_ID_MISSING",
        "QUANTITY_OUT_OF_RANGE",
        "PRICE_OUT_OF_RANGE",
        "CURRENCY_MISSING",
        "DISCOUNT_ABOVE_TOTAL",
    }


@pytest.mark.parametrize(
    "kind",
    ["PAGE_VIEW", "SEARCH", "ADD_TO_CART", "REMOVE_FROM_CART", "CHECKOUT", "PURCHASE", "REFUND"],
)
def test_a_good_event_of_each_type_breaks_nothing(kind: str) -> None:
    assert broken(event(kind)) == set()


@pytest.mark.parametrize("text", ["DE\n", "\nDE", "D\u0415", "ÄÖ", "D", ""])
def test_only_two_plain_capitals_are_a_country(text: str) -> None:
    assert broken(event(country=text)) == {"COUNTRY_SHAPE"}


@pytest.mark.parametrize(
    "text",
    [
        "{00000000-0000-0000-0000-000000000001}",
        "00000000-0000-0000-0000-000000000001\n",
        "0000000-00000-0000-0000-000000000001",
        "00000000-0000-0000-0000-00000000000g",
        "\u06600000000-0000-0000-0000-000000000001",
    ],
)
def test_only_the_plain_form_is_a_uuid(text: str) -> None:
    assert broken(event(event_id=text)) == {"EVENT_ID_NOT_UUID"}


def queries() -> st.SearchStrategy[str]:
    spaces = st.text(st.sampled_from(WHITESPACE + "\u200b\ufeff"), max_size=3)
    return st.builds(
        "".join,
        st.tuples(
            spaces, st.text(max_size=8) | st.sampled_from(["ΑΣ", "İ", "ΑΣ Γ", "ǅ", "ß"]), spaces
        ),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(queries(), min_size=1, max_size=100))
def test_queries_are_trimmed_and_lowered_as_python_does(texts: list[str]) -> None:
    normalized = pl.DataFrame({"search_query": texts}).select(
        next(d.value for d in SEARCHES_1M.by if d.name == "query")
    )
    assert normalized.to_series().to_list() == [text.strip().lower() for text in texts]


def test_whitespace_is_what_python_strips() -> None:
    assert sorted(WHITESPACE) == [chr(i) for i in range(0x110000) if not chr(i).strip()]


PIECES: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.sampled_from(["", "x", "00000000-0000-0000-0000-000000000001", "\0"]),
    "event_type": st.sampled_from(
        ["UNKNOWN", "PAGE_VIEW", "SEARCH", "ADD_TO_CART", "CHECKOUT", "PURCHASE", "REFUND"]
    ),
    "event_time": st.sampled_from([0, 946_684_799_999, NOON, NOON + 10_001, 2**62, -(2**63)]),
    "customer_id": st.sampled_from([None, "", "c" * 129, "\0"]),
    "search_query": st.sampled_from([None, "", " ", "x", "x" * 257, "\0"]),
    "search_results": st.sampled_from([None, -1, 0]),
    "order_id": st.sampled_from([None, "", "o"]),
    "currency": st.sampled_from([None, "", "EUR", "eur", "EURO"]),
    "country": st.sampled_from(["DE", "", "D\0"]),
    "items": st.lists(
        st.builds(
            lambda p, c, q, u: item(product_id=p, category=c, quantity=q, unit_price_minor=u),
            st.sampled_from(["", "p", "\0", "p" * 65]),
            st.sampled_from(["", "c" * 65, "c\0"]),
            st.sampled_from([-(2**31), 0, 1, 100_000, 2**31 - 1]),
            st.sampled_from([-(2**63), -1, 0, 10_000_000, 2**63 - 1]),
        ),
        max_size=3,
    ),
}
AMOUNTS = st.sampled_from([None, -(2**63), -1, 0, 100, 10**12 + 1, 2**63 - 1])
PIECES |= dict.fromkeys(("discount_minor", "tax_minor", "shipping_minor"), AMOUNTS)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=PIECES))
def test_any_event_breaks_the_rules_that_plain_python_says(changes: dict[str, Any]) -> None:
    sample = event(**changes)
    assert broken(sample) == broken_rules(sample, NOON, TOLERANCE)
