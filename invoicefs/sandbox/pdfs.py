"""The PDFs of the sample invoices. The only importer of ``fpdf`` (package fpdf2, extra ``demo``).

The same invoice has the same bytes on every run and on every machine (with one version of
fpdf2): the date is fixed, the file id is a hash of the content, every viewer has the fonts, and
nothing is compressed, because builds of zlib differ in their output.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
_COLUMN_WIDTHS_MM = (90, 30, 35, 35)


@dataclass(frozen=True)
class LineItem:
    """One line of an invoice; prices are in cents."""

    text: str
    quantity: int
    unit_price: int

    @property
    def price(self) -> int:
        """The price of the whole line in cents."""
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class Statement:
    """The text of an invoice. Core fonts only have Latin-1, so the currency is an ISO code."""

    number: str
    tenant: str
    period: str
    status: str
    currency: str
    items: tuple[LineItem, ...]

    @property
    def total(self) -> int:
        """The sum of all lines in cents."""
        return sum(item.price for item in self.items)


@cache
def invoice_pdf(statement: Statement) -> bytes:
    """Return the invoice as a one-page PDF."""
    from fpdf import FPDF  # the import takes a third of a second

    page = FPDF(format="A4")
    page.set_compression(False)
    page.set_creation_date(_CREATED)
    page.set_producer("invoicefs")
    page.set_title(f"Invoice {statement.number}")
    page.add_page()
    page.set_font("Helvetica", "B", 22)
    page.cell(text="INVOICE", new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", size=11)
    page.ln(6)
    for label, value in _heading(statement):
        page.cell(w=40, h=7, text=label)
        page.cell(h=7, text=value, new_x="LMARGIN", new_y="NEXT")
    page.ln(8)
    with page.table(
        col_widths=_COLUMN_WIDTHS_MM, text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT")
    ) as table:
        for row in _rows(statement):
            table.row(row)
    return bytes(page.output())


def plain_pdf(text: str, size_bytes: int = 0) -> bytes:
    """Return bytes that begin and end like a PDF, but have no pages; this needs no fpdf2.

    They are padded to `size_bytes`.
    """
    head, tail = f"%PDF-1.4\n% {text}\n".encode(), b"\n%%EOF\n"
    return head + b"%" * (size_bytes - len(head) - len(tail)) + tail


def _heading(statement: Statement) -> list[tuple[str, str]]:
    return [
        ("Invoice number", statement.number),
        ("Tenant", statement.tenant),
        ("Period", statement.period),
        ("Status", statement.status),
    ]


def _rows(statement: Statement) -> list[tuple[str, str, str, str]]:
    currency = statement.currency
    return [
        ("Item", "Quantity", f"Price ({currency})", f"Amount ({currency})"),
        *(
            (item.text, f"{item.quantity:,}", _money(item.unit_price), _money(item.price))
            for item in statement.items
        ),
        ("Total", "", "", f"{_money(statement.total)} {currency}"),
    ]


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"
