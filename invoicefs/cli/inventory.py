"""The invoices of a mount, or of a tenant without one, as commands see them. No PDF requests."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from invoicefs.currencies import decimal_amount, minor_digits, whole_number
from invoicefs.errors import UserError
from invoicefs.model import UNKNOWN_STATUS

Respond = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A function that responds to requests of `mount.inventory_requests`; raises `UserError`."""

_PARALLEL: Final = 8  # the mount has its own limit


@dataclass(frozen=True, slots=True)
class Entry:
    """An invoice and what is known of it; texts and numbers that are unknown are empty or None.

    `inside` is its path in the mount, `path` the whole path, empty without a mount. `sha256` and
    `size_bytes` are those of the last download, which had an earlier version unless `is_current`;
    `earlier` has the SHA-256 of those before it. `is_available` is false if the API had no PDF of
    this version at the last request. Periods are RFC 3339 times. `fetch_error` is why a download
    that the command has requested failed.
    """

    namespace: str
    name: str
    inside: str
    path: str
    is_draft: bool
    status: str
    amount_minor: int | None
    currency: str
    period_start: str
    period_end: str
    size_bytes: int | None
    sha256: str | None
    earlier: tuple[str, ...]
    is_current: bool
    is_available: bool
    open_error: str | None
    fetch_error: str | None = None

    @property
    def is_unpaid(self) -> bool:
        """Whether the listing explains that the API has no PDF: it only has those of paid invoices.

        A final invoice without a status may have been paid.
        """
        return self.status != "paid" if self.status else self.is_draft

    @property
    def amount(self) -> Decimal | None:
        """The amount, with the digits that ISO 4217 gives its currency."""
        return decimal_amount(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The invoices that were found, and a sentence for each list that may be incomplete."""

    entries: tuple[Entry, ...]
    failures: tuple[str, ...]


def inventory(respond: Respond, mount_path: str, inside: str = "/") -> Inventory:
    """Return the invoices at or below a path in a mount, in the order of its directories.

    Without a mount, `mount_path` is empty. Raises nothing: what cannot be listed is a failure, and
    hides nothing else.
    """
    directory = inside.split("/")[1]
    names, failures = ((directory,), []) if directory else _directories(respond, mount_path)
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="list") as threads:
        parts = list(threads.map(lambda name: _listed(respond, mount_path, name), names))
    entries = [entry for part in parts for entry in part.entries]
    failures += [failure for part in parts for failure in part.failures]
    found = tuple(entry for entry in entries if _is_at_or_below(entry, inside))
    if not found and not failures and inside.count("/") > 1:
        failures.append(f"{mount_path}{inside} is not an invoice.")
    return Inventory(found, tuple(failures))


def joined(inventories: Mapping[Hashable, Sequence[Inventory]]) -> Inventory:
    """Return the invoices of several tenants, each of which may be listed several times.

    An invoice that is in several mounts of a tenant, or below several paths, occurs once.
    """
    entries: dict[tuple[Hashable, str], Entry] = {}
    failures: dict[str, None] = {}
    for tenant, parts in inventories.items():
        for part in parts:
            failures |= dict.fromkeys(part.failures)
            for entry in part.entries:
                entries.setdefault((tenant, entry.inside), entry)
    return Inventory(tuple(entries.values()), tuple(failures))


def _directories(respond: Respond, mount_path: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of all directories, and why some may be missing."""
    prefix = f"{mount_path}: " if mount_path else ""
    try:
        response = respond({"ask": "namespaces"})
    except UserError as error:
        return (), [_sentence(f"{prefix}{error}")]
    failure = response["failure"]
    failures = [_sentence(f"{prefix}Namespaces may be missing: {failure}")] if failure else []
    return tuple(sorted(response["directories"])), failures


def _listed(respond: Respond, mount_path: str, directory: str) -> Inventory:
    place = f"{mount_path}/{directory}" if mount_path else directory
    try:
        response = respond({"ask": "list", "directory": directory})
    except UserError as error:
        return Inventory((), (_sentence(f"{place}: {error}"),))
    failure = response["failure"]
    words = f"{place}: The last good listing is shown: {failure}"
    entries = tuple(_entry(fields, mount_path) for fields in response["invoices"])
    return Inventory(entries, (_sentence(words),) if failure else ())


def _sentence(words: str) -> str:
    """End words with a period; the messages of mounts are sentences or parts of one."""
    return f"{words.rstrip('.')}."


def _is_at_or_below(entry: Entry, inside: str) -> bool:
    return inside == "/" or entry.inside == inside or entry.inside.startswith(f"{inside}/")


def _entry(fields: Mapping[str, Any], mount_path: str) -> Entry:
    status, currency = fields["status"], fields["currency"].strip().upper()
    return Entry(
        namespace=fields["namespace"],
        name=fields["name"],
        inside=fields["path"],
        path=f"{mount_path}{fields['path']}" if mount_path else "",
        is_draft=fields["active"],
        status="" if status == UNKNOWN_STATUS else status,
        amount_minor=whole_number(fields["amount"]),
        currency=currency if minor_digits(currency) is not None else fields["currency"],
        period_start=fields["period_start"],
        period_end=fields["period_end"],
        size_bytes=fields["size_bytes"],
        sha256=fields["sha256"],
        earlier=tuple(fields["earlier"]),
        is_current=fields["is_current"],
        is_available=fields["is_available"],
        open_error=fields["open_error"],
    )
