"""`shopstream products`: names from a shop's file, beside the ids on the boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.runtime.paths import ROOT
from tests.support.commands import shopstream
from tests.support.databases import Database, grafana_session


def products(database: Database, *words: str) -> tuple[int, str]:
    ran = shopstream(database, "products", *words)
    return ran.code, ran.out or ran.error


def name_of(database: Database, product: str) -> str:
    with grafana_session(database) as reader:
        row = reader.execute("SELECT gold.product_name(%s)", (product,)).fetchone()
    assert row
    return str(row[0])


def test_names_are_stored_and_the_last_one_of_a_product_wins(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "names.csv"
    file.write_text('product_id,name\np-1,Mug\np-2,\np-1,"Mug, blue"\np-3,T\x07ea\n')
    assert products(database, str(file)) == (0, "2 products named, 2 of them new or changed")
    assert products(database, str(file)) == (0, "2 products named, 0 of them new or changed")
    assert [name_of(database, p) for p in ("p-1", "p-2", "p-9")] == ["Mug, blue", "-", "-"]
    assert "\x07" not in name_of(database, "p-3")


def test_a_real_shops_invoices_name_its_products(database: Database) -> None:
    invoices = ROOT / "tests" / "data" / "invoices.csv"
    code, told = products(database, str(invoices), "--id", "StockCode", "--name", "Description")
    assert code == 0, told
    assert not told.startswith("0 ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"id,name\np-1,Mug\n", "has no column product_id"),
        (b"", "has no column name and no column product_id"),
        (b"product_id,name\n", "names no product"),
        (b"product_id,name\np-1,M\xe4\n", "can't decode byte 0xe4"),
        (b"product_id,name\np-1,Mug\n" + b"p" * 300 + b",Mug\n", "line 3: no product has such"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(
    database: Database, tmp_path: Path, content: bytes, complaint: str
) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes(content)
    code, told = products(database, str(file))
    assert (code, complaint in told) == (2, True), told
    assert name_of(database, "p-1") == "-"


def test_a_file_that_is_not_there_is_one_line(database: Database) -> None:
    code, told = products(database, "nowhere.csv")
    assert (code, told.count("\n")) == (2, 0)
    assert "nowhere.csv" in told
