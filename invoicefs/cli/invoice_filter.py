"""Which invoices a list shows, and in which order. Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from invoicefs.cli.entries import Entry
from invoicefs.dates import parse_day


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Includes the invoices whose period starts in a range of days, and those with some statuses.

    An invoice belongs to the day on which its period starts, so each belongs to one month. An
    invoice without a valid period or status is included: a list must not lack it.
    """

    since: date | None = None
    until: date | None = None
    statuses: frozenset[str] = frozenset()

    def includes(self, entry: Entry) -> bool:
        """Return whether the filter includes an invoice."""
        start = start_of(entry)
        return (
            (not self.statuses or not entry.status or entry.status in self.statuses)
            and (start is None or self.since is None or start >= self.since)
            and (start is None or self.until is None or start <= self.until)
        )


def start_of(entry: Entry) -> date | None:
    """Return the day on which the period of an invoice starts, or ends if that is all we know."""
    return parse_day(entry.period_start) or parse_day(entry.period_end)


def in_order(sort: str, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the invoices sorted by ``period``, ``name`` or ``amount``, unknown values last."""
    match sort:
        case "name":
            return tuple(sorted(entries, key=lambda entry: (entry.namespace, entry.name)))
        case "amount":
            return tuple(sorted(entries, key=_by_amount))
        case _:
            return tuple(sorted(entries, key=_by_period))


def _by_period(entry: Entry) -> tuple[bool, date, str, str]:
    start = start_of(entry)
    return start is None, start or date.min, entry.namespace, entry.name


def _by_amount(entry: Entry) -> tuple[bool, str, int, str]:
    amount = entry.amount
    return amount is None, entry.currency, entry.amount_minor or 0, entry.name
