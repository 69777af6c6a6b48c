"""Parses the JSON of the API. Pure functions: nothing here touches the network.

Every field is a proto3 field (vendor's OpenAPI document), so any of them may be absent, and an
empty list is omitted altogether: ``{}`` is a valid, empty response. An invalid field is logged once
for the whole list; a value that is not text counts as absent, and an invoice whose `active` is not
a boolean counts as a draft. An item without a valid name is left out, but a list of only such items
is refused, and so is one with an item that has two names.

A parsed response can take a hundred times its size in memory (measured: 60 MiB of ``[],[],…`` took
1.3 GB and 30 s). So its values are counted before they are built, and long lists check their
deadline while they are parsed.
"""

import json
import logging
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from invoicefs import names
from invoicefs.api.redaction import hidden, on_one_line
from invoicefs.clock import Deadline
from invoicefs.dates import parse_time_ns
from invoicefs.errors import TimedOut, UnusableResponse
from invoicefs.model import (
    STATUSES,
    UNKNOWN_STATUS,
    Invoice,
    NamespaceList,
)

log = logging.getLogger(__name__)

MAX_LISTED_VALUES: Final = 4_000_000
"""Maximum number of values in a list; they take at most half a gigabyte.

300 000 invoices have 2.4 million values.
"""

MAX_VALUES: Final = 1000
"""Maximum number of values in any other response."""

_REPEATED = ("status", "currency", "period_start", "period_end")
_UNIQUE = {"pdf", "invoices", "items"}
_CENTS = re.compile(r"-?\d+", re.ASCII)
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_MAX_LEVELS = 50  # kept of a response with more levels than Python's parser allows, about 1000
_ITEMS_PER_CHECK = 1000


@dataclass(frozen=True, slots=True)
class InvoicesResponse:
    """The valid invoices, and the number of invoices that the server sent, valid or not."""

    invoices: tuple[Invoice, ...]
    count: int


def parse_json(body: bytes | bytearray, max_values: int) -> object:
    """Return the JSON value in a body; raises `UnusableResponse` if it is not JSON.

    Integers become text, because Python refuses to parse one of 5000 digits. Texts that many
    objects of a long list share are interned.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > max_values:
        raise UnusableResponse("the response has more values than any valid one")
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        try:
            return _DECODER.decode(text)
        except RecursionError:
            return _DECODER.decode(_shallow(text))
    except (ValueError, RecursionError) as error:
        raise UnusableResponse("the response is not JSON") from error


def _object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        for name, value in pairs:
            # The field that was requested must not occur twice, not even with the same value.
            if counts[name] > 1 and (name in _UNIQUE or fields[name] != value):
                fields[name] = AMBIGUOUS
    for name in _REPEATED:
        text = fields.get(name)
        if isinstance(text, str):
            fields[name] = sys.intern(text)
    return fields


AMBIGUOUS: Final = object()
"""The value of a field that occurs with different values, or of a requested one that recurs."""

_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object_of, parse_int=str)


def _shallow(text: str) -> str:
    """Return the JSON text without the values that are nested deeper than `_MAX_LEVELS`."""
    kept: list[str] = []
    begin = level = 0
    for match in _BRACKETS.finditer(text):
        if match[0] in "[{":
            level += 1
            if level == _MAX_LEVELS:
                kept.append(text[begin : match.end()])
        elif match[0] in "]}":
            if level == _MAX_LEVELS:
                begin = match.start()
            level -= 1
    return "".join([*kept, text[begin:]])


def parse_namespaces(body: object, secret: str = "", *, deadline: Deadline) -> NamespaceList:
    """Parse a list of namespaces; raises `UnusableResponse` if it is not one.

    Here and below, if a response repeats the `secret` that was sent, the log does not show it.
    """
    fields = object_in(body)
    items = _array(fields, "items", others=("errors",))
    invalid = _InvalidFields("namespaces of the tenant")
    found: list[str] = []
    for item in _in_time(items, deadline):
        name = _name_in(item)
        if isinstance(name, str) and names.directory_name(name) is not None:
            found.append(name)
        else:
            invalid.note("name", name, item)
    invalid.log(secret)
    if items and not found:
        raise UnusableResponse("the response lists only namespaces without valid names")
    return NamespaceList(tuple(dict.fromkeys(found)), bool(fields.get("errors")))


def parse_invoices(
    body: object, namespace: str, secret: str = "", *, deadline: Deadline
) -> InvoicesResponse:
    """Parse a list of invoices; raises `UnusableResponse` if it is not one."""
    items = _array(object_in(body), "invoices")
    invalid = _InvalidFields(f"invoices in {namespace}")
    invoices = tuple(
        invoice
        for item in _in_time(items, deadline)
        if (invoice := _parse_invoice(item, namespace, secret, invalid)) is not None
    )
    invalid.log(secret)
    if items and not invoices:
        raise UnusableResponse("the response lists only invoices without names")
    return InvoicesResponse(invoices, len(items))


def count_invoices(body: object) -> int:
    """Return the length of a list of invoices; raises `UnusableResponse` if it is not one."""
    return len(_array(object_in(body), "invoices"))


def _in_time(items: list[object], deadline: Deadline) -> Iterator[object]:
    """Yield the items, and free each of them in the list; raises `TimedOut` at the deadline."""
    for index, item in enumerate(items):
        if index % _ITEMS_PER_CHECK == 0 and deadline.left_s() == 0:
            raise TimedOut("the list was too long to be read within the timeout")
        items[index] = None
        yield item


def error_message(body: bytes | bytearray, secret: str) -> str:
    """Return the server's message in an error body, on one line; empty if it has none.

    Bodies are JSON with ``message`` or ``error``, a bare JSON string, or anything else. If the
    server repeats the `secret` that was sent, it is `hidden`.
    """
    try:
        value = parse_json(body, MAX_VALUES)
    except UnusableResponse:
        return ""
    if isinstance(value, dict):
        value = value.get("message") or value.get("error")
    text = value if isinstance(value, str) else ""
    return on_one_line(hidden(text, secret))


def object_in(value: object) -> dict[str, object]:
    """Return the fields of a JSON object; raises `UnusableResponse` if it is not one."""
    if not isinstance(value, dict):
        raise UnusableResponse("the response is not a JSON object")
    return value


def _array(fields: dict[str, object], name: str, others: tuple[str, ...] = ()) -> list[object]:
    """Return the list in a field, empty if the field is absent.

    A response with something else instead, such as an error sent with 200, must not be mistaken for
    an empty list: an empty folder makes ``rsync --delete`` empty an archive.
    """
    value = fields.get(name)
    if value is None and not (fields.keys() - {name, *others}):
        return []
    if not isinstance(value, list):
        raise UnusableResponse(f"the response contains no list of {name}")
    return value


class _InvalidFields:
    """Invalid values in a list of `things`: one log line per field, however many there are."""

    def __init__(self, things: str) -> None:
        self._things = things
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[object, object]] = {}

    def note(self, field: str, name: object, value: object) -> None:
        """Count an invalid value of a field in the item of this name."""
        self._counts[field] += 1
        self._first.setdefault(field, (name, value))

    def log(self, secret: str) -> None:
        """Log one line for each field that was noted."""
        for field, (name, value) in self._first.items():
            log.warning(
                "The field %r of %d %s is invalid; the first is %s of %s",
                field,
                self._counts[field],
                self._things,
                _shown(value, secret),
                _shown(name, secret),
            )


def _parse_invoice(
    item: object, namespace: str, secret: str, invalid: _InvalidFields
) -> Invoice | None:
    fields = item if isinstance(item, dict) else {}
    name = _name_in(item)
    if not isinstance(name, str) or not name:
        invalid.note("name", name, item)
        return None

    def text(field: str) -> str:
        found = _text(fields.get(field))
        if found is None or not _is_valid(field, found):
            invalid.note(field, name, fields[field])
        return hidden(found or "", secret)  # the text is shown as an extended attribute

    active = fields.get("active")
    if not isinstance(active, bool | None):
        invalid.note("active", name, active)
        active = True  # an invoice that is not known to be final can change
    return Invoice(
        namespace=namespace,
        name=name,
        active=bool(active),
        status=_status(text("status")),
        amount=text("amount"),
        currency=text("currency"),
        period_start=text("period_start"),
        period_end=text("period_end"),
    )


def _name_in(item: object) -> object:
    """Return the name of an item; raises `UnusableResponse` if it is ambiguous."""
    name = item.get("name") if isinstance(item, dict) else None
    if name is AMBIGUOUS:
        raise UnusableResponse("an item in the response has two names")
    return name


def _text(value: object) -> str | None:
    """Return the text of a field, empty if it is absent; None if it is not text.

    An int64 is text in proto3 JSON, which not every gateway respects; `parse_json` makes it text.
    """
    return value or "" if isinstance(value, str | None) else None


def _status(text: str) -> str:
    """Return the status in a text, or `UNKNOWN_STATUS` if the API does not define it."""
    word = _status_word(text)
    return word if word in STATUSES else UNKNOWN_STATUS


def _status_word(text: str) -> str:
    return text.strip().lower().removeprefix("status_")


def _is_valid(field: str, text: str) -> bool:
    """Return whether the text of a field is valid; empty text is."""
    match field:
        case "status":
            return not text or _status_word(text) in STATUSES
        case "amount":
            return not text or _CENTS.fullmatch(text) is not None
        case "period_start" | "period_end":
            return not text or parse_time_ns(text) is not None
        case _:
            return True


def _shown(value: object, secret: str) -> str:
    """Return a value for the log, limited in length and depth."""
    # Secrets are hidden first: truncated text could show part of one.
    return reprlib.repr(_with_hidden(value, secret, reprlib.aRepr.maxlevel))


def _with_hidden(value: object, secret: str, levels: int) -> object:
    if isinstance(value, str):
        return hidden(value, secret)
    if isinstance(value, dict | list) and not levels:
        return "..."
    if isinstance(value, dict):
        return {
            hidden(key, secret): _with_hidden(inner, secret, levels - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_with_hidden(inner, secret, levels - 1) for inner in value]
    return value
