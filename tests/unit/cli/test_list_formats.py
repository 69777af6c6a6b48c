"""A list of invoices as CSV, JSON and a table, its filter and its order."""

import csv
import io
from datetime import date

import pytest

from invoicefs.cli import list_formats
from invoicefs.cli.invoice_filter import InvoiceFilter, in_order
from tests.support.entries import entry

UNKNOWN = entry(
    "unknown", status="", amount_minor=None, currency="", period_start="", period_end="odd"
)


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


def test_csv_has_a_header_crlf_and_quotes() -> None:
    data = list_formats.as_csv([entry('a "b", c')])

    header, row, end = data.decode().split("\r\n")
    assert header.startswith("namespace,invoice,period_start,period_end,status,state,amount,")
    assert row.startswith('system,"a ""b"", c",2026-01-01,2026-01-31,paid,final,1234.50,EUR,no,,,')
    assert end == ""


def test_unknown_values_are_empty_in_csv_and_null_in_json() -> None:
    (row,) = rows_of(list_formats.as_csv([UNKNOWN]))
    (value,) = list_formats.as_json([UNKNOWN])

    known = {"namespace", "invoice", "state", "downloaded", "path"}
    assert {name for name, text in row.items() if text} == known
    assert {name for name, found in value.items() if found is not None} == known


def test_what_was_downloaded_in_an_earlier_version_counts_as_unknown() -> None:
    changed = entry("a", b"before", is_current=False)

    (row,) = rows_of(list_formats.as_csv([changed]))

    assert (row["downloaded"], row["size_bytes"], row["sha256"]) == ("no", "", "")


def test_control_characters_are_escaped_in_csv_and_table() -> None:
    odd = entry("a\n\x1b[2Jb\u202e\ud800")

    (row,) = rows_of(list_formats.as_csv([odd]))
    table = list_formats.as_table([odd], None)

    assert row["invoice"] == r"a\n\x1b[2Jb\u202e\ud800"
    assert len(table) == 2
    assert all(line.isprintable() for line in table)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_a_name_is_no_formula_in_a_spreadsheet_but_exact_in_json(name: str) -> None:
    assert rows_of(list_formats.as_csv([entry(name)]))[0]["invoice"] == f"'{name}"
    assert list_formats.as_json([entry(name)])[0]["invoice"] == name


def test_json_has_the_amount_as_text_and_as_the_number_of_the_api() -> None:
    yen = entry(currency="JPY", amount_minor=300)

    (value,) = list_formats.as_json([yen])

    assert (value["amount"], value["amount_minor"], value["currency"]) == ("300", 300, "JPY")


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_table_is_as_wide_as_the_terminal(columns: int) -> None:
    entries = [entry(name, b"x", path="/mnt/x.pdf") for name in ("invoice-2026-01", "請求書")]

    table = list_formats.as_table(entries, columns)

    assert "INVOICE" in table[0]
    assert "AMOUNT" in table[0]
    assert max(map(list_formats._width, table)) <= columns
    widest = list_formats.as_table(entries, None)
    assert "SHA-256" in widest[0]
    assert list_formats._width(widest[1]) == list_formats._width(widest[2])


def test_sums_are_exact_and_separate_for_each_currency() -> None:
    entries = [
        *(entry(amount_minor=amount) for amount in (10**25, 1, -3)),
        entry(amount_minor=5, currency="JPY"),
        entry(amount_minor=5, currency="XBT"),
        UNKNOWN,
    ]

    assert list_formats.sums(entries) == (
        f"6 invoices, 0 downloaded; total {10**23 - 1}.98 EUR, 5 JPY; 2 without a known amount"
    )
    assert [sentence.split(",")[0] for sentence in list_formats.unknown_amounts(entries)] == [
        "The amounts in 'XBT' (1) are unknown",
        "1 amount is unknown",
    ]


def test_an_invoice_belongs_to_the_month_in_which_its_period_starts() -> None:
    january = entry("j", period_start="2026-01-31T00:00:00Z", period_end="2026-02-27T00:00:00Z")
    february = entry("f", period_start="2026-02-01T00:00:00Z")

    def names(since: date | None, until: date | None) -> list[str]:
        chosen = InvoiceFilter(since=since, until=until)
        return [found.name for found in (january, february, UNKNOWN) if chosen.includes(found)]

    assert names(date(2026, 2, 1), None) == ["f", "unknown"]
    assert names(None, date(2026, 1, 31)) == ["j", "unknown"]
    assert names(date(2026, 1, 31), date(2026, 2, 1)) == ["j", "f", "unknown"]


def test_an_unknown_status_is_never_filtered_out() -> None:
    chosen = InvoiceFilter(statuses=frozenset({"paid"}))

    assert chosen.includes(UNKNOWN)
    assert not chosen.includes(entry(status="issued"))


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("period", ["c", "b", "a", "unknown"]),
        ("name", ["a", "b", "c", "unknown"]),
        ("amount", ["b", "c", "a", "unknown"]),
    ],
)
def test_unknown_values_come_last_in_every_order(sort: str, names: list[str]) -> None:
    entries = [
        UNKNOWN,
        entry("a", currency="JPY", amount_minor=1, period_start="2026-03-01T00:00:00Z"),
        entry("b", amount_minor=-5, period_start="2026-02-01T00:00:00Z"),
        entry("c", amount_minor=7),
    ]

    assert [found.name for found in in_order(sort, entries)] == names
