"""A real shop's file: every way in which it is written, and what becomes of its rows."""

from __future__ import annotations

import csv
import gzip
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from generators.config import ReplayPlan, Target
from generators.errors import ConfigError
from generators.replay.invoices import (
    country_code,
    pence,
    read_customer,
    read_invoices,
    read_quantity,
    read_time,
)
from generators.replay.replay import INVOICES, invoice_event
from generators.runner import replay

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
# Invented rows in the layout of the data set, with one of each kind of dirt among them.
SAMPLE = Path(__file__).resolve().parents[2] / "data" / "invoices.csv"
# Names a CSV of the data set's first month, for whoever has it: 2010-12-01 to 2010-12-23.
FIRST_MONTH = os.environ.get("ONLINE_RETAIL_2010_12_CSV", "")


def file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "shop.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_both_date_forms_and_both_customer_forms_are_the_same_event(tmp_path: Path) -> None:
    one, _ = read_invoices(
        file(tmp_path, HEADER + "1,A,x,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n")
    )
    other, _ = read_invoices(
        file(tmp_path, HEADER + "1,A,x,2,12/1/2010 8:26,2.55,17850,United Kingdom\n")
    )
    assert one == other
    assert one[0].time_ms == int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp() * 1000)
    assert one[0].customer == "17850"


def test_an_invoice_is_one_event_at_its_earliest_line_in_the_order_of_its_first(
    tmp_path: Path,
) -> None:
    rows = (
        "536365,85123A,HEART,6,2010-12-01 08:27:00,2.55,17850.0,United Kingdom\n"
        "536366,22633,WARMER,6,2010-12-01 08:28:00,1.85,,EIRE\n"
        "536365,71053,LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom\n"
        "536365,71053,LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom\n"
    )
    first, second = (
        invoice_event(invoice) for invoice in read_invoices(file(tmp_path, HEADER + rows))[0]
    )
    assert first["event_type"] == "PURCHASE"
    assert first["event_id"] == str(uuid.uuid5(INVOICES, "536365"))
    assert first["order_id"] == "536365"
    assert first["visitor_id"] == "customer-17850"
    assert first["customer_id"] == "17850"
    assert first["event_time"] == int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp() * 1000)
    assert [
        (i["product_id"], i["category"], i["quantity"], i["unit_price_minor"])
        for i in first["items"]
    ] == [
        ("85123A", "unknown", 6, 255),
        ("71053", "unknown", 6, 339),
        ("71053", "unknown", 6, 339),
    ]
    assert (
        first["currency"],
        first["country"],
        first["channel"],
        first["device"],
        first["shop_id"],
    ) == (
        "GBP",
        "GB",
        "UNKNOWN",
        "UNKNOWN",
        "online-retail",
    )
    assert (second["visitor_id"], second["customer_id"], second["country"]) == (
        "guest-536366",
        None,
        "IE",
    )


def test_a_cancellation_is_a_refund_of_positive_quantities(tmp_path: Path) -> None:
    rows = "C536379,D,Discount,-3,2010-12-01 09:41:00,27.5,14527.0,United Kingdom\n"
    event = invoice_event(read_invoices(file(tmp_path, HEADER + rows))[0][0])
    assert (event["event_type"], event["order_id"], event["items"][0]["quantity"]) == (
        "REFUND",
        "536379",
        3,
    )
    assert event["event_id"] == str(uuid.uuid5(INVOICES, "C536379"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.55", 255),
        ("0.001", 0),
        ("2.5", 250),
        ("0.005", 1),
        ("1.115", 112),
        ("-11062.06", -1106206),
        ("38970", 3897000),
        ("0", 0),
        ("1e2", 10000),
    ],
)
def test_pounds_become_pence_rounded_half_up(text: str, expected: int) -> None:
    assert pence(text) == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("United Kingdom", "GB"),
        ("EIRE", "IE"),
        ("RSA", "ZA"),
        ("Channel Islands", "JE"),
        ("European Community", "ZZ"),
        ("Unspecified", "ZZ"),
        ("USA", "US"),
        ("Czech Republic", "CZ"),
        ("Atlantis", "ZZ"),
        ("", "ZZ"),
    ],
)
def test_countries_by_name(name: str, code: str) -> None:
    assert country_code(name) == code


@pytest.mark.parametrize("text", ["", "six", "1.5", "nan", "inf", "99999999999", "1e400"])
def test_a_wrong_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Quantity"):
        read_quantity(text)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "13/13/2010 8:26", "2010-02-30 08:00:00", "2010-12-01", "12/1/10 8:26"],
)
def test_a_wrong_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="InvoiceDate"):
        read_time(text)


@pytest.mark.parametrize(
    "text",
    ["1.12.2010 08:26", "2010/12/01 08:26", "01-Dec-2010 08:26", "40513.35", "13/12/2010 8:26"],
)
def test_a_date_in_another_form_is_told_the_forms(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not a date written YYYY-MM-DD HH:MM\[:SS\] or M/D/YYYY H:MM\[:SS\]"
    ):
        read_time(text)


@pytest.mark.parametrize(
    "text", ["2010-12-01 08:26", "2010-12-01 08:26:00", "12/1/2010 8:26", "12/01/2010 08:26:00"]
)
def test_a_date_with_and_without_seconds(text: str) -> None:
    assert read_time(text) == int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "customer"),
    [
        ("17850", "17850"),
        ("17850.0", "17850"),
        ("17850.00", "17850"),
        (" 17850.0 ", "17850"),
        ("100.0", "100"),
        ("", None),
        (" ", None),
        ("nan", None),
        ("NaN", None),
        ("NULL", None),
        ("null", None),
        (" Nan ", None),
    ],
)
def test_customers_in_all_forms(text: str, customer: str | None) -> None:
    assert read_customer(text) == customer


def test_rows_that_cannot_be_read_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = (
        "1,A,ok,1,2010-12-01 08:26:00,1,,France\n"
        "2,A,bad,many,2010-12-01 08:26:00,1,,France\n"
        '3,A,"two\nlines",1,never,1,,France\n'
        "4,A,short,1\n"
        "5,A,long,1,2010-12-01 08:26:00,1,,France,more\n"
        ",A,none,1,2010-12-01 08:26:00,1,,France\n"
        "6,A,price,1,2010-12-01 08:26:00,free,,France\n"
        '7,A,"quoted, comma",1,2010-12-01 08:26:00,1,,France\n'
    )
    path = file(tmp_path, HEADER + rows)
    report = replay(ReplayPlan(target=Target(sink="null"), source=path, ledger=tmp_path / "ledger"))
    assert (report.healthy, report.rejected_rows) == (2, 6)
    assert report.rejected_file == tmp_path / "ledger" / "shop.rejected.csv"
    with report.rejected_file.open(newline="") as listed:
        lines = list(csv.DictReader(listed))
    assert [line["line"] for line in lines] == ["3", "4", "6", "7", "8", "9"]
    assert "'many' is not a number" in lines[0]["reason"]
    assert "4 columns where the header has 8" in lines[2]["reason"]


GOOD = "{},A,{},1,2010-12-01 08:26:00,1,,France\n"


def read(folder: Path, text: str) -> tuple[list[str], list[int]]:
    """Give the invoices read, and the lines rejected."""
    invoices, rejected = read_invoices(file(folder, text))
    return [invoice.number for invoice in invoices], [entry.line for entry in rejected]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "after",
    [
        ["plain", "plain"],
        ['"quoted, comma"', "plain"],
        ['12"" RULER', '7" SINGLE"'],
        ['12" RULER', "x"],
        ["plain"] * 5000,
    ],
)
def test_an_unclosed_quote_costs_its_own_line_only(
    tmp_path: Path, after: list[str], ending: str
) -> None:
    rows = GOOD.format(1, "x") + GOOD.format(2, '"open')
    rows += "".join(GOOD.format(number, text) for number, text in enumerate(after, 3))
    text = (HEADER + rows).replace("\n", ending)
    assert read(tmp_path, text) == (["1", *(str(n) for n in range(3, 3 + len(after)))], [3])
    (entry,) = read_invoices(tmp_path / "shop.csv")[1]
    assert (entry.reason, entry.row) == (
        "a quote is opened and never closed",
        [GOOD.format(2, '"open').strip()],
    )


def test_unclosed_quotes_one_after_the_other_and_on_the_last_line(tmp_path: Path) -> None:
    opened = "".join(GOOD.format(number, '"open') for number in (1, 2, 3))
    assert read(tmp_path, HEADER + opened + GOOD.format(4, "x") + GOOD.format(5, '"open')) == (
        ["4"],
        [2, 3, 4, 6],
    )
    assert read(tmp_path, HEADER + GOOD.format(1, "x") + GOOD.format(2, '"open').strip()) == (
        ["1"],
        [3],
    )


def test_lines_behind_an_unclosed_quote_have_their_own_reasons(tmp_path: Path) -> None:
    rows = (
        GOOD.format(1, '"open')
        + GOOD.format(2, "x").replace("08:26", "late")
        + "3,A,short\n"
        + GOOD.format(4, '"x"')
    )
    invoices, rejected = read_invoices(file(tmp_path, HEADER + rows))
    assert [invoice.number for invoice in invoices] == ["4"]
    assert [entry.line for entry in rejected] == [2, 3, 4]
    assert "never closed" in rejected[0].reason
    assert "InvoiceDate" in rejected[1].reason
    assert "3 columns" in rejected[2].reason


def test_a_damaged_line_does_not_close_the_quote_of_another(tmp_path: Path) -> None:
    rows = GOOD.format(1, '"open') + 'rest",9,2010-12-01 08:26:00,1,,France\n' + GOOD.format(3, "x")
    assert read(tmp_path, HEADER + rows) == (["3"], [2, 3])


def test_a_quoted_description_of_several_lines_is_one_row(tmp_path: Path) -> None:
    rows = (
        GOOD.format(1, '"two, or\n\nthree ""lines"""')
        + GOOD.format(2, '"open')
        + GOOD.format(3, '"a\nb"')
    )
    assert read(tmp_path, HEADER + rows + "4\n") == (["1", "3"], [5, 8])


@pytest.mark.parametrize("blank", ["\n", "\r\n\r\n", " \n\t\n", ",,,,,,,\n", "\r"])
def test_blank_lines_before_the_header_are_skipped_and_counted(tmp_path: Path, blank: str) -> None:
    text = blank + HEADER + GOOD.format(1, "x") + "\n" + "2,short\n"
    before = blank.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    assert read(tmp_path, text) == (["1"], [before + 4])


def test_only_blank_lines_are_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found an empty file"):
        read_invoices(file(tmp_path, "\n \n\n"))


@pytest.mark.parametrize("header", [HEADER, HEADER.replace("\n", ",\n")])
def test_empty_fields_behind_the_last_column_are_tolerated(tmp_path: Path, header: str) -> None:
    rows = [GOOD.format(number, '"x, y"').strip() for number in range(1, 6)]
    text = header + "\n".join(
        row + end for row, end in zip(rows, ["", ",", ", ,", ",more", ",,more"], strict=True)
    )
    assert read(tmp_path, text) == (["1", "2", "3"], [5, 6])


def test_rejected_rows_are_listed_even_when_they_are_all(tmp_path: Path) -> None:
    path = file(tmp_path, HEADER + "1,short\n2,short\n")
    with pytest.raises(
        ConfigError, match=r"no row can be read \(2 rejected, listed in .*shop\.rejected\.csv\)"
    ):
        replay(ReplayPlan(target=Target(sink="null"), source=path, ledger=tmp_path / "ledger"))
    with (tmp_path / "ledger" / "shop.rejected.csv").open(newline="") as listed:
        assert [line["line"] for line in csv.DictReader(listed)] == ["2", "3"]


@pytest.mark.parametrize("good", ["", GOOD.format(9, "x")])
def test_without_a_ledger_the_first_rejected_rows_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: str
) -> None:
    path = file(tmp_path, HEADER + "1,short\n" * 7 + good)
    plan = ReplayPlan(target=Target(sink="null"), source=path)
    if good:
        assert replay(plan).rejected_rows == 7
    else:
        with pytest.raises(ConfigError, match="7 rejected"):
            replay(plan)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{path}: 7 rows could not be read"
    assert lines[1:6] == [f"  line {n}: 2 columns where the header has 8" for n in range(2, 7)]
    assert lines[6:] == ["  and 2 more"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_exports_in_other_encodings_and_delimiters(tmp_path: Path, encoding: str) -> None:
    text = HEADER + "1,A£,CAFÉ,1,2010-12-01 08:26:00,1,,France\r\n"
    assert read_invoices(file(tmp_path, text, encoding))[0][0].lines[0].stock_code == "A£"
    text = text.replace(",", ";")
    assert read_invoices(file(tmp_path, text, encoding))[0][0].country == "FR"


def test_gzip_is_known_by_its_bytes_and_columns_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "shop.dat"
    text = (
        "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo,Extra\n"
    )
    path.write_bytes(gzip.compress((text + "France,1,2.50,12/1/2010 8:26,3,,A,9,x\n").encode()))
    (invoice,), rejected = read_invoices(path)
    assert (invoice.number, invoice.lines[0].price_minor, rejected) == ("9", 250, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column"),
        (b"a,b\n1,2\n", "no column InvoiceNo"),
        (b"\x1f\x8bnot gzip", "gzip"),
        (HEADER.replace("Country", "Land").encode(), "no column Country;"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "shop.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_invoices(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_invoices(tmp_path / "absent.csv")


def test_the_dirt_of_the_file_reaches_the_ledger_by_the_ordinary_rules(tmp_path: Path) -> None:
    rows = (
        "1,A,stock,-5,2010-12-01 08:00:00,0,,France\n"
        "A2,B,bad debt,1,2010-12-01 08:01:00,-11062.06,,France\n"
        "3,C,huge,100001,2010-12-01 08:02:00,1,,France\n"
        "4,M,manual,1,2010-12-01 08:03:00,100000.01,,France\n"
        "5,,none,1,2010-12-01 08:04:00,1,,France\n"
        "6,G,gift,1,2010-12-01 08:05:00,0,,France\n"
    )
    replay(
        ReplayPlan(
            target=Target(sink="null"),
            source=file(tmp_path, HEADER + rows),
            ledger=tmp_path / "ledger",
        )
    )
    events = pq.read_table(tmp_path / "ledger" / "events.parquet").to_pylist()
    assert [event["expected_rules"] for event in events] == [
        ["QUANTITY_OUT_OF_RANGE"],
        ["PRICE_OUT_OF_RANGE"],
        ["QUANTITY_OUT_OF_RANGE"],
        ["PRICE_OUT_OF_RANGE"],
        ["PRODUCT_ID_MISSING"],
        [],
    ]


def test_an_invoice_behind_its_partition_is_late(tmp_path: Path) -> None:
    rows = "".join(
        f"{n},A,x,1,2010-12-01 08:{minute}:00,1,7,France\n"
        for n, minute in enumerate(("10", "09", "08", "11"))
    )
    replay(
        ReplayPlan(
            target=Target(sink="null"),
            source=file(tmp_path, HEADER + rows),
            ledger=tmp_path / "ledger",
        )
    )
    events = pq.read_table(tmp_path / "ledger" / "events.parquet").to_pylist()
    assert [event["expected_outcome"] for event in events] == [
        "accepted",
        "accepted",
        "late",
        "accepted",
    ]


def test_a_sample_with_every_kind_of_dirt(tmp_path: Path) -> None:
    invoices, rejected = read_invoices(SAMPLE)
    assert (len(invoices), sum(len(invoice.lines) for invoice in invoices)) == (76, 312)
    assert {invoice.country for invoice in invoices} == {"GB", "IE", "FR", "DE", "NL", "AU", "ZZ"}
    assert [(entry.line, entry.reason.split(" ")[0]) for entry in rejected] == [
        (128, "Quantity"),
        (139, "InvoiceDate"),
        (150, "4"),
        (161, "9"),
        (172, "a"),
        (183, "InvoiceNo"),
        (194, "UnitPrice"),
    ]

    ledger = tmp_path / "ledger"
    report = replay(ReplayPlan(target=Target(sink="null"), source=SAMPLE, ledger=ledger))
    assert (report.sent, report.rejected_rows) == (76, 7)
    events = {
        event["event_id"]: (event["expected_outcome"], event["expected_rules"])
        for event in pq.read_table(ledger / "events.parquet").to_pylist()
    }
    dirt = {
        "700900": ("rejected", ["QUANTITY_OUT_OF_RANGE"]),  # a stock correction
        "A700901": ("rejected", ["PRICE_OUT_OF_RANGE"]),  # a bad debt
        "700902": ("rejected", ["QUANTITY_OUT_OF_RANGE"]),  # more than the limit
        "700903": ("rejected", ["PRICE_OUT_OF_RANGE"]),  # more than the limit
        "700904": ("rejected", ["PRODUCT_ID_MISSING"]),
        "700905": ("accepted", []),  # a gift
        "700912": ("accepted", []),  # a description of two lines
        "700913": ("accepted", []),  # the other forms of date and customer, and empty columns
        "700914": ("accepted", []),  # half a penny, from nowhere
        "700915": ("late", ["EVENT_TIME_LATE"]),  # of the day before
    }
    assert {n: events[str(uuid.uuid5(INVOICES, n))] for n in dirt} == dirt


@pytest.mark.skipif(not FIRST_MONTH, reason="ONLINE_RETAIL_2010_12_CSV names no file")
def test_the_first_month_of_a_real_shop() -> None:
    invoices, rejected = read_invoices(Path(FIRST_MONTH))
    assert (len(invoices), sum(len(invoice.lines) for invoice in invoices), rejected) == (
        2025,
        42_481,
        [],
    )
    assert {invoice.country for invoice in invoices} >= {"GB", "IE", "FR", "DE"}
