"""A list of invoices as CSV, as JSON and as a table. Pure functions."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from invoicefs.api.redaction import escaped
from invoicefs.cli.currencies import decimal_amount
from invoicefs.cli.entries import Entry
from invoicefs.dates import parse_day, parse_time_ns
from invoicefs.units import rounded_size

_GAP: Final = "  "
_FORMULA_SIGNS: Final = ("=", "+", "-", "@")


class _Column(NamedTuple):
    """A column of the table; `rank` is its place among the columns that fit into a narrow one."""

    title: str
    text: Callable[[Entry], str]
    rank: int
    is_number: bool = False


def as_csv(entries: Iterable[Entry]) -> bytes:
    """Return the rows in the form of RFC 4180, with a header, in UTF-8.

    Control characters in names are escaped; dates are days, amounts have a decimal point. A text
    that spreadsheets would take for a formula begins with an apostrophe (measured: LibreOffice
    computes ``=1+1``).
    """
    text = io.StringIO()
    writer = csv.writer(text)  # its defaults are those of RFC 4180: commas, CRLF, doubled quotes
    writer.writerow(_CSV_COLUMNS)
    writer.writerows(
        [escaped(value(entry)) for value in _CSV_COLUMNS.values()] for entry in entries
    )
    return text.getvalue().encode()


def as_json(entries: Iterable[Entry]) -> list[dict[str, object]]:
    """Return one JSON object per invoice; unknown values are null."""
    return [_json_object(entry) for entry in entries]


def as_table(entries: Sequence[Entry], columns: int | None) -> tuple[str, ...]:
    """Return the lines of a table, with as many of its columns as fit into `columns` characters.

    With None, all of them are shown. Columns without any text are left out.
    """
    table = [column for column in _TABLE if any(map(column.text, entries))]
    cells = {column: [escaped(column.text(entry)) for entry in entries] for column in table}
    widths = {column: max(map(_width, (column.title, *texts))) for column, texts in cells.items()}
    while columns is not None and len(table) > 1:
        if sum(widths[column] + len(_GAP) for column in table) - len(_GAP) <= columns:
            break
        table.remove(max(table, key=lambda column: column.rank))
    rows = zip(*([column.title, *cells[column]] for column in table), strict=True)
    return tuple(
        _GAP.join(
            _padded(text, widths[column], is_right=column.is_number)
            for column, text in zip(table, row, strict=True)
        ).rstrip()
        for row in rows
    )


def sums(entries: Sequence[Entry]) -> str:
    """Return how many invoices these are, and the sum of the amounts in each currency."""
    by_currency: dict[str, int] = {}
    unknown_count = 0
    for entry in entries:
        if entry.amount is None or entry.amount_minor is None:
            unknown_count += 1
        else:
            before = by_currency.get(entry.currency, 0)
            by_currency[entry.currency] = before + entry.amount_minor
    totals = [f"{decimal_amount(by_currency[code], code)} {code}" for code in sorted(by_currency)]
    downloaded_count = sum(entry.is_current for entry in entries)
    plural = "" if len(entries) == 1 else "s"
    facts = [f"{len(entries)} invoice{plural}, {downloaded_count} downloaded"]
    if totals:
        facts.append(f"total {', '.join(totals)}")
    if unknown_count:
        facts.append(f"{unknown_count} without a known amount")
    return "; ".join(facts)


def unknown_amounts(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return a sentence for each reason why amounts are unknown."""
    unknown = [entry for entry in entries if entry.amount is None]
    without_digits = Counter(
        entry.currency for entry in unknown if entry.amount_minor is not None and entry.currency
    )
    sentences = [
        f"The amounts in {code!r} ({count}) are unknown, because ISO 4217 gives this currency no "
        "number of digits: see amount_minor in --json."
        for code, count in sorted(without_digits.items())
    ]
    if others := len(unknown) - without_digits.total():
        words = "1 amount is" if others == 1 else f"{others} amounts are"
        sentences.append(f"{words} unknown, because the API gives no whole number or no currency.")
    return tuple(sentences)


def _day(time: str) -> str:
    day = parse_day(time)
    return day.isoformat() if day else ""


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text


def _amount(entry: Entry) -> str:
    return "" if entry.amount is None else str(entry.amount)


def _state(entry: Entry) -> str:
    return "draft" if entry.is_draft else "final"


def _size_bytes(entry: Entry) -> int | None:
    return entry.size_bytes if entry.is_current else None


def _sha256(entry: Entry) -> str:
    return entry.sha256 or "" if entry.is_current else ""


def _rounded_size(entry: Entry) -> str:
    size_bytes = _size_bytes(entry)
    return "" if size_bytes is None else rounded_size(size_bytes)


def _downloaded(entry: Entry) -> str:
    return "yes" if entry.is_current else "no"


_CSV_COLUMNS: Final[dict[str, Callable[[Entry], str]]] = {
    "namespace": lambda entry: _no_formula(entry.namespace),
    "invoice": lambda entry: _no_formula(entry.name),
    "period_start": lambda entry: _day(entry.period_start),
    "period_end": lambda entry: _day(entry.period_end),
    "status": lambda entry: entry.status,
    "state": _state,
    "amount": _amount,
    "currency": lambda entry: _no_formula(entry.currency),
    "downloaded": _downloaded,
    "size_bytes": lambda entry: str(_size_bytes(entry) or ""),
    "sha256": _sha256,
    "path": lambda entry: entry.path,
}

_TABLE: Final = (
    _Column("NAMESPACE", lambda entry: entry.namespace, 5),
    _Column("INVOICE", lambda entry: entry.name, 0),
    _Column("START", lambda entry: _day(entry.period_start), 4),
    _Column("END", lambda entry: _day(entry.period_end), 3),
    _Column("STATUS", lambda entry: entry.status, 6),
    _Column("STATE", _state, 7),
    _Column("AMOUNT", _amount, 1, is_number=True),
    _Column("CURRENCY", lambda entry: entry.currency, 2),
    _Column("DOWNLOADED", _downloaded, 8),
    _Column("SIZE", _rounded_size, 9, is_number=True),
    _Column("SHA-256", _sha256, 11),
    _Column("PATH", lambda entry: entry.path, 10),
)


def _json_object(entry: Entry) -> dict[str, object]:
    return {
        "namespace": entry.namespace,
        "invoice": entry.name,
        "period_start": _time(entry.period_start),
        "period_end": _time(entry.period_end),
        "status": entry.status or None,
        "state": _state(entry),
        "amount": _amount(entry) or None,
        "amount_minor": entry.amount_minor,
        "currency": entry.currency or None,
        "downloaded": entry.is_current,
        "size_bytes": _size_bytes(entry),
        "sha256": _sha256(entry) or None,
        "path": entry.path or None,
    }


def _time(text: str) -> str | None:
    return None if parse_time_ns(text) is None else text


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes; see Unicode Standard Annex #11."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _padded(text: str, width: int, *, is_right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if is_right else text + blanks
