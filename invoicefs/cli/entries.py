"""The invoices of a mount, or of a tenant without one, as commands see them: no PDF requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from invoicefs.cli.currencies import decimal_amount, minor_digits, whole_number
from invoicefs.cli.parallel import in_threads
from invoicefs.errors import UserError
from invoicefs.model import UNKNOWN_STATUS

Respond = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A function that responds to requests of `mount.inventory_requests`; raises `UserError`."""

ANY: Final = ""
"""Stands for any directory."""

_PARALLEL: Final = 8  # the mount has its own limit


@dataclass(frozen=True, slots=True)
class Entry:
    """An invoice and what is known of it; texts and numbers that are unknown are empty or None.

    `inside` is its path in the mount, `path` the whole path, empty without a mount. `sha256` and
    `size_bytes` are those of the last download, which had an earlier version unless `is_current`;
    `earlier` has the SHA-256 of those before it. `is_available` is false if the API had no PDF of
    this version at the last request, which is as it should be if `is_unpaid`. Periods are RFC 3339
    times. `fetch_error` is why a download that the command has requested failed.
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
    is_unpaid: bool
    open_error: str | None
    fetch_error: str | None = None

    @property
    def amount(self) -> Decimal | None:
        """The amount, with the digits that ISO 4217 gives its currency."""
        return decimal_amount(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class Entries:
    """The invoices that were found, and a sentence for each listing that failed.

    `forbidden` has a sentence for each directory that the credential was never allowed to list.
    `incomplete` has the directories that may have more invoices, or `ANY`, if there may be more
    directories.
    """

    entries: tuple[Entry, ...] = ()
    failures: tuple[str, ...] = ()
    forbidden: Mapping[str, str] = field(default_factory=dict)
    incomplete: frozenset[str] = frozenset()

    def may_have_more(self, inside: str) -> bool:
        """Return whether a path in the mount may be that of an invoice that was not listed."""
        return not self.incomplete.isdisjoint((ANY, inside.split("/")[1]))


def list_entries(
    respond: Respond, mount_path: str, inside: str = "/", directories: Sequence[str] = ()
) -> Entries:
    """Return the invoices at or below a path in a mount, by the names of its directories.

    Only `directories` are listed, or all if there are none. Without a mount, `mount_path` is empty.
    Raises nothing: the failure of a listing hides no other.
    """
    directory = inside.split("/")[1]
    if directory and directories and directory not in directories:
        return Entries()
    chosen = (directory,) if directory else tuple(directories)
    names, root = (chosen, Entries()) if chosen else _directories(respond, mount_path)
    parts = in_threads(lambda name: _listed(respond, mount_path, name), names, _PARALLEL)
    found = joined([root, *parts])
    at_path = tuple(entry for entry in found.entries if _is_at_or_below(entry, inside))
    if not at_path and not found.incomplete and inside.count("/") > 1:
        return _failed(f"{mount_path}{inside} is not an invoice", directory)
    return replace(found, entries=at_path)


def joined(parts: Sequence[Entries]) -> Entries:
    """Return the invoices of all parts of one tenant; one that is in several parts occurs once."""
    entries: dict[str, Entry] = {}
    for entry in (entry for part in parts for entry in part.entries):
        entries.setdefault(entry.inside, entry)
    return Entries(
        tuple(entries.values()),
        tuple(dict.fromkeys(failure for part in parts for failure in part.failures)),
        {name: words for part in parts for name, words in part.forbidden.items()},
        frozenset().union(*(part.incomplete for part in parts)),
    )


def _directories(respond: Respond, mount_path: str) -> tuple[tuple[str, ...], Entries]:
    """Return the names of all directories, and why some may be missing."""
    prefix = f"{mount_path}: " if mount_path else ""
    try:
        response = respond({"ask": "namespaces"})
    except UserError as error:
        return (), _failed(f"{prefix}{error}", ANY)
    failure = response["failure"]
    root = _failed(f"{prefix}namespaces may be missing: {failure}", ANY) if failure else Entries()
    return tuple(sorted(response["directories"])), root


def _listed(respond: Respond, mount_path: str, directory: str) -> Entries:
    place = f"{mount_path}/{directory}" if mount_path else directory
    try:
        response = respond({"ask": "list", "directory": directory})
    except UserError as error:
        return _failed(f"{place}: {error}", directory)
    if forbidden := response["forbidden"]:
        words = {directory: f"{place}: {forbidden}."}
        return Entries(forbidden=words, incomplete=frozenset({directory}))
    entries = tuple(_entry(fields, mount_path) for fields in response["invoices"])
    failure = response["failure"]
    if not failure:
        return Entries(entries)
    outdated = _failed(f"{place}: the last good listing is shown: {failure}", directory)
    return replace(outdated, entries=entries)


def _failed(words: str, incomplete: str) -> Entries:
    """Return a failed listing; the messages of mounts are sentences or parts of one."""
    return Entries(failures=(f"{words.rstrip('.')}.",), incomplete=frozenset({incomplete}))


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
        is_unpaid=fields["is_unpaid"],
        open_error=fields["open_error"],
    )
