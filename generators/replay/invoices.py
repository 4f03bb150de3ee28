"""Read invoices in the layout of the UCI Online Retail data set: any export of it, plain or gzip.

Source: Daqing Chen, "Online Retail" (UCI Machine Learning Repository, 2015), CC BY 4.0.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cache
from pathlib import Path

from generators.errors import ConfigError

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
OWN_COUNTRIES = {
    "EIRE": "IE",
    "RSA": "ZA",
    "Channel Islands": "JE",
    "European Community": "ZZ",
    "Unspecified": "ZZ",
}
UNKNOWN_COUNTRY = "ZZ"
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_ISO = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})[ T](?P<time>[\d:]+)(\.\d+)?"
)
_MONTH_FIRST = re.compile(r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4}) (?P<time>[\d:]+)")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_DATES = "YYYY-MM-DD HH:MM[:SS] or M/D/YYYY H:MM[:SS]"
_CUSTOMER_NUMBER = re.compile(r"([0-9]+)\.0*")
_NO_CUSTOMER = {"", "nan", "null"}
# Physical lines that a quoted text may span; bounds the search for the closing quote.
_MAX_LINES_OF_ROW = 50
_UNCLOSED = "a quote is opened and never closed"


@dataclass(frozen=True)
class Line:
    """A line of an invoice.

    Units: `price_minor` in pence.
    """

    stock_code: str
    quantity: int
    price_minor: int


@dataclass
class Invoice:
    """An invoice, with the country of its first line and the first customer that a line names.

    Time: `time_ms` is that of its earliest line, taken as UTC.
    """

    number: str
    time_ms: int
    customer: str | None
    country: str
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be read.

    Units: `line` is where it starts in the file; the first line is 1, and blank lines count.
    """

    line: int
    reason: str
    row: list[str]


def read_invoices(path: Path) -> tuple[list[Invoice], list[Rejected]]:
    """Group the lines of a file by invoice number, in the order of their first lines.

    Errors: ConfigError for a file that cannot be read, or that lacks a column.
    """
    lines = _text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    header, layout = _layout(path, lines)
    invoices: dict[str, Invoice] = {}
    rejected: list[Rejected] = []
    for number, row, broken in _rows(lines, header + 1, layout):
        try:
            if broken is not None:
                raise ValueError(broken)
            _add(invoices, row, layout)
        except ValueError as error:
            rejected.append(Rejected(number, str(error), row))
    return list(invoices.values()), rejected


@dataclass(frozen=True)
class _Layout:
    """How a file's rows are written.

    Shape: `columns` gives the index of each column, `width` how many the header has.
    """

    delimiter: str
    columns: dict[str, int]
    width: int

    def fits(self, row: list[str]) -> bool:
        """Tell whether a row has the fields of the header; empty ones behind them are ignored."""
        return len(row) == self.width or (
            len(row) > self.width and not any(map(str.strip, row[self.width :]))
        )


def _add(invoices: dict[str, Invoice], row: list[str], layout: _Layout) -> None:
    if not layout.fits(row):
        raise ValueError(f"{len(row)} columns where the header has {layout.width}")
    columns = layout.columns
    number = row[columns["InvoiceNo"]].strip()
    if not number:
        raise ValueError("InvoiceNo is empty")
    line = Line(
        row[columns["StockCode"]].strip(),
        read_quantity(row[columns["Quantity"]]),
        pence(row[columns["UnitPrice"]]),
    )
    time_ms = read_time(row[columns["InvoiceDate"]])
    customer = read_customer(row[columns["CustomerID"]])
    invoice = invoices.get(number)
    if invoice is None:
        country = country_code(row[columns["Country"]])
        invoice = invoices[number] = Invoice(number, time_ms, customer, country)
    invoice.time_ms = min(invoice.time_ms, time_ms)
    invoice.customer = invoice.customer or customer
    invoice.lines.append(line)


def _layout(path: Path, lines: list[str]) -> tuple[int, _Layout]:
    """Find the header, the first line that is not blank, and give its index and its columns."""
    index = next((n for n, line in enumerate(lines) if line.strip(" ,;\t")), len(lines) - 1)
    delimiter = max(",;\t", key=lines[index].count)
    header = [name.strip() for name in _parse_line(lines[index], delimiter)[0]]
    while header and not header[-1]:
        header.pop()
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ConfigError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(header) or 'an empty file'}"
        )
    return index, _Layout(delimiter, {name: header.index(name) for name in COLUMNS}, len(header))


def _rows(
    lines: list[str], start: int, layout: _Layout
) -> Iterator[tuple[int, list[str], str | None]]:
    """Give each row with the number of its first line, and the reason when it cannot be parsed.

    Each line is parsed by itself, so that an unclosed quote loses its own line only. Where a quote
    is not closed on its line, `_parse_lines` decides whether the row goes on.
    """
    index = start
    while index < len(lines):
        count = 1
        if lines[index].strip(" "):
            row, broken = _parse_line(lines[index], layout.delimiter)
            if broken is _UNCLOSED and (joined := _parse_lines(lines, index, layout)) is not None:
                (row, count), broken = joined, None
            yield index + 1, row, broken
        index += count


def _parse_line(line: str, delimiter: str) -> tuple[list[str], str | None]:
    """Parse one physical line; when that fails, give the line itself and the reason."""
    if '"' not in line:
        return line.split(delimiter), None
    reader = csv.reader((line, ""), delimiter=delimiter)
    try:
        row = next(reader)
    except csv.Error as error:
        return [line], str(error)
    if reader.line_num > 1:  # the reader went on to the next line for the closing quote
        return [line], _UNCLOSED
    return row, None


def _parse_lines(lines: list[str], start: int, layout: _Layout) -> tuple[list[str], int] | None:
    """Parse a row whose quoted text runs over several lines, and count the lines.

    Shape: None if the quote was only left open: then a line behind it is a row of its own, or the
    quoted text holds the date of one.
    """
    candidates = (f"{line}\n" for line in lines[start : start + _MAX_LINES_OF_ROW])
    reader = csv.reader(candidates, delimiter=layout.delimiter, strict=True)
    try:
        row = next(reader)
    except csv.Error:
        return None
    if not layout.fits(row) or any("\n" in text and _holds_a_date(text) for text in row):
        return None
    for line in lines[start + 1 : start + reader.line_num]:
        own_row, broken = _parse_line(line, layout.delimiter)
        if broken is None and layout.fits(own_row):
            return None
    return row, reader.line_num


def _holds_a_date(text: str) -> bool:
    return _ISO.search(text) is not None or _MONTH_FIRST.search(text) is not None


def _text(path: Path) -> str:
    """Read and decode a whole file, plain or gzip.

    Shape: UTF-8 with or without a byte order mark, UTF-16 with one, else Windows-1252 or Latin-1.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path}: a broken gzip file ({error})") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    for encoding in (
        ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    ):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


@cache
def read_quantity(text: str) -> int:
    """Read a whole number.

    Errors: ValueError naming what is wrong.
    """
    number = _decimal("Quantity", text)
    if number != number.to_integral_value() or abs(number) > _INT32:
        raise ValueError(f"Quantity {text!r} is not a whole number of 32 bits")
    return int(number)


@cache
def pence(text: str) -> int:
    """Turn pounds into pence, with halves away from zero (2.55 is 255, 0.005 is 1).

    Errors: ValueError naming what is wrong.
    """
    number = _decimal("UnitPrice", text) * 100
    if abs(number) > _INT64:
        raise ValueError(f"UnitPrice {text!r} is out of range")
    return int(number.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _decimal(column: str, text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"{column} {text!r} is not a number") from None
    if not number.is_finite() or number.adjusted() > 30:
        raise ValueError(f"{column} {text!r} is not a number")
    return number


@cache
def read_time(text: str) -> int:
    """Read `2010-12-01 08:26:00` or `12/1/2010 8:26` as UTC, in milliseconds.

    Errors: ValueError naming what is wrong.
    """
    date = _ISO.fullmatch(text.strip()) or _MONTH_FIRST.fullmatch(text.strip())
    time = _TIME.fullmatch(date["time"]) if date else None
    if date is None or time is None:
        raise ValueError(f"InvoiceDate {text!r} is not a date written {_DATES}")
    hour, minute, second = (int(part or 0) for part in time.groups())
    try:
        moment = datetime(
            int(date["year"]),
            int(date["month"]),
            int(date["day"]),
            hour,
            minute,
            second,
            tzinfo=UTC,
        )
    except ValueError as error:
        raise ValueError(f"InvoiceDate {text!r} is not a date written {_DATES}: {error}") from None
    return int(moment.timestamp()) * 1000


@cache
def read_customer(text: str) -> str | None:
    """Read `17850`, `17850.0` or `17850.00`; None for an empty field, nan and null."""
    text = text.strip()
    if text.lower() in _NO_CUSTOMER:
        return None
    number = _CUSTOMER_NUMBER.fullmatch(text)
    return number[1] if number else text


@cache
def country_code(name: str) -> str:
    """Give ISO 3166 alpha-2 for a country's name, and ZZ for one that the standard lacks."""
    name = name.strip()
    if name in OWN_COUNTRIES:
        return OWN_COUNTRIES[name]
    # imported only where it is used: the operator's commands do without the extra `load`
    try:
        import pycountry
    except ModuleNotFoundError as error:
        raise ConfigError(
            "countries of invoices need pycountry: pip install 'shopstream[load]'"
        ) from error
    try:
        return str(pycountry.countries.lookup(name).alpha_2)
    except LookupError:
        return UNKNOWN_COUNTRY


def rejected_name(source: Path) -> str:
    """Name the file that lists the rejected rows of a source."""
    stem = source.name.removesuffix(".gz").removesuffix(".csv")
    return f"{stem}.rejected.csv"


def write_rejected(path: Path, rejected: list[Rejected]) -> None:
    """Write line number, reason and text of each rejected row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "reason", "row"])
        writer.writerows([entry.line, entry.reason, ",".join(entry.row)] for entry in rejected)
