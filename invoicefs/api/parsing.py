"""What the JSON of the API means. Pure functions: nothing here touches the network.

Every field is a proto3 field (vendor's OpenAPI document), so any of them may be absent, and an
empty list is left out altogether: ``{}`` is a valid, empty answer. What is there but cannot be
understood costs that field and one log line for the whole list, never the listing.

What an answer becomes in memory can be a hundred times its size (measured: 60 MiB of ``[],[],…``
were 1.3 GB and 30 s). So its values are counted before they are built, and long lists look at their
deadline while they are gone through.
"""

import base64
import binascii
import contextlib
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
from invoicefs.errors import TimedOut, TooLarge, UnusableAnswer
from invoicefs.model import (
    STATUSES,
    UNKNOWN_STATUS,
    Invoice,
    NamespaceList,
    is_whole_pdf,
)

log = logging.getLogger(__name__)

MOST_LISTED_VALUES: Final = 4_000_000
"""In the answer to a list: 300 000 invoices have 2.4 million. They take half a gigabyte at most."""

MOST_VALUES: Final = 1000
"""In any other answer."""

_REPEATED = {"status", "currency", "period_start", "period_end"}
_WHOLE_ANSWERS = {"pdf", "invoices", "items"}
_CENTS = re.compile(r"-?\d+", re.ASCII)
_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")
_BLANKS = re.compile(r"\s+")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_MOST_LEVELS = 50  # of an answer whose levels are more than Python's parser takes, some 1000
_CHECKED_AFTER = 1000


@dataclass(frozen=True, slots=True)
class InvoicesAnswer:
    """The invoices that can be shown, and how many the server sent, shown or not."""

    invoices: tuple[Invoice, ...]
    count: int


def parse_json(body: bytes | bytearray, most_values: int) -> object:
    """The JSON value in a body; raises `UnusableAnswer` where it is something else.

    Whole numbers become text, because one of 5000 digits is none for Python. Of texts that many
    objects of a long list have in common there is one in memory.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > most_values:
        raise UnusableAnswer("the answer has more parts than any that was asked for")
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        try:
            return _DECODER.decode(text)
        except RecursionError:
            return _DECODER.decode(_shallow(text))
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer("the answer is not JSON") from error


def _object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        for name, value in pairs:
            # What was asked for must not come twice, not even the same.
            if counts[name] > 1 and (name in _WHOLE_ANSWERS or fields[name] != value):
                fields[name] = AMBIGUOUS
    for name in _REPEATED & fields.keys():
        text = fields[name]
        if isinstance(text, str):
            fields[name] = sys.intern(text)
    return fields


AMBIGUOUS: Final = object()
"""The value of what an answer says twice."""

_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object_of, parse_int=str)


def _shallow(text: str) -> str:
    """The JSON text with nothing in what is more than `_MOST_LEVELS` deep."""
    kept: list[str] = []
    begin = level = 0
    for match in _BRACKETS.finditer(text):
        if match[0] in "[{":
            level += 1
            if level == _MOST_LEVELS:
                kept.append(text[begin : match.end()])
        elif match[0] in "]}":
            if level == _MOST_LEVELS:
                begin = match.start()
            level -= 1
    return "".join([*kept, text[begin:]])


def parse_namespaces(answer: object, secret: str = "", *, deadline: Deadline) -> NamespaceList:
    """The answer to a list of namespaces; raises `UnusableAnswer` where it is none.

    Here and below, should an answer repeat the `secret` that was sent, the log does not.
    """
    fields = _object(answer)
    items = _array(fields, "items", others=("errors",))
    oddities = _Oddities("namespaces of the tenant")
    found: list[str] = []
    for item in _in_time(items, deadline):
        name = _name_in(item)
        if isinstance(name, str) and names.directory_name(name) is not None:
            found.append(name)
        else:
            oddities.note("name", name, item)
    oddities.log(secret)
    if items and not found:
        raise UnusableAnswer("the answer lists namespaces without usable names only")
    return NamespaceList(tuple(dict.fromkeys(found)), bool(fields.get("errors")))


def parse_invoices(
    answer: object, namespace: str, secret: str = "", *, deadline: Deadline
) -> InvoicesAnswer:
    """The answer to a list of invoices; raises `UnusableAnswer` where it is none."""
    items = _array(_object(answer), "invoices")
    oddities = _Oddities(f"invoices in {namespace}")
    invoices = tuple(
        invoice
        for item in _in_time(items, deadline)
        if (invoice := _parse_invoice(item, namespace, secret, oddities)) is not None
    )
    oddities.log(secret)
    if items and not invoices:
        raise UnusableAnswer("the answer lists invoices without names only")
    return InvoicesAnswer(invoices, len(items))


def _in_time(items: list[object], deadline: Deadline) -> Iterator[object]:
    """The items; each gives its memory to what is made of it. Raises `TimedOut` at the deadline."""
    for place, item in enumerate(items):
        if place % _CHECKED_AFTER == 0 and deadline.left_s() == 0:
            raise TimedOut("the list was too long to be read within --timeout")
        items[place] = None
        yield item


def parse_pdf(answer: object, max_size_bytes: int) -> bytes:
    """The PDF in an answer: base64, standard or URL-safe, padded or not.

    Raises `UnusableAnswer` where there is none and `TooLarge` where it exceeds the limit.
    """
    text = _object(answer).get("pdf")
    if not isinstance(text, str) or not text:
        raise UnusableAnswer("the answer holds no PDF")
    pdf = _decode_base64(text)
    if len(pdf) > max_size_bytes:
        raise TooLarge(f"the PDF has {len(pdf)} bytes, more than --max-pdf-size")
    if not is_whole_pdf(pdf):
        raise UnusableAnswer("what the answer holds is not a whole PDF")
    return pdf


def error_message(body: bytes | bytearray, secret: str) -> str:
    """The server's own words in an error body, on one line; empty where there are none.

    Bodies are JSON with ``message`` or ``error``, a bare JSON string, or anything else. Should
    the server repeat the `secret` that it was asked with, it is `hidden`.
    """
    try:
        answer = parse_json(body, MOST_VALUES)
    except UnusableAnswer:
        return ""
    if isinstance(answer, dict):
        answer = answer.get("message") or answer.get("error")
    text = answer if isinstance(answer, str) else ""
    return on_one_line(hidden(text, secret))


def _object(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise UnusableAnswer("the answer is not a JSON object")
    return answer


def _array(fields: dict[str, object], name: str, others: tuple[str, ...] = ()) -> list[object]:
    """The list in a field, empty where the field is absent.

    An answer that has something else instead, an error sent as 200 for example, must not be
    taken for an empty list: an empty folder makes ``rsync --delete`` empty an archive.
    """
    value = fields.get(name)
    if value is None and not (fields.keys() - {name, *others}):
        return []
    if not isinstance(value, list):
        raise UnusableAnswer(f"the answer holds no list of {name}")
    return value


class _Oddities:
    """What is not understood in a list of `things`: a line per field, however many have it."""

    def __init__(self, things: str) -> None:
        self._things = things
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[object, object]] = {}

    def note(self, field: str, name: object, value: object) -> None:
        """Count one thing whose field is not understood."""
        self._counts[field] += 1
        self._first.setdefault(field, (name, value))

    def log(self, secret: str) -> None:
        """Write down what was noted."""
        for field, (name, value) in self._first.items():
            log.warning(
                "The field %r of %d %s is not understood; the first is %s of %s",
                field,
                self._counts[field],
                self._things,
                _shown(value, secret),
                _shown(name, secret),
            )


def _parse_invoice(
    item: object, namespace: str, secret: str, oddities: _Oddities
) -> Invoice | None:
    fields = item if isinstance(item, dict) else {}
    name = _name_in(item)
    if not isinstance(name, str) or not name:
        oddities.note("name", name, item)
        return None

    def text(field: str) -> str:
        found = _text(fields.get(field))
        if found is None or not _is_understood(field, found):
            oddities.note(field, name, fields[field])
        return hidden(found or "", secret)  # else it were shown as an attribute

    active = fields.get("active")
    if not isinstance(active, bool | None):
        oddities.note("active", name, active)
        active = True  # what is not known to be final can change
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
    """What stands as the name of an item; raises `UnusableAnswer` where that is in doubt."""
    name = item.get("name") if isinstance(item, dict) else None
    if name is AMBIGUOUS:
        raise UnusableAnswer("the answer has two names for one thing")
    return name


def _text(value: object) -> str | None:
    """The text of a field, empty where it is absent; None for what is no text.

    An int64 is text in proto3 JSON, but not every gateway knows; `parse_json` made it so.
    """
    return value or "" if isinstance(value, str | None) else None


def _status(text: str) -> str:
    """The status that a text stands for, `UNKNOWN_STATUS` for one that the API does not have."""
    word = _status_word(text)
    return word if word in STATUSES else UNKNOWN_STATUS


def _status_word(text: str) -> str:
    return text.strip().lower().removeprefix("status_")


def _is_understood(field: str, text: str) -> bool:
    """Whether it is known what the text of a field means; an empty one means nothing."""
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
    """A value for the log: bounded in length and depth, whatever the server sent."""
    # Hidden first: a text that is cut in its middle could keep a part of the secret.
    return reprlib.repr(_with_hidden(value, secret, reprlib.aRepr.maxlevel))


def _with_hidden(value: object, secret: str, levels: int) -> object:
    if isinstance(value, str):
        return hidden(value, secret)
    if isinstance(value, dict | list) and not levels:
        return "..."
    if isinstance(value, dict):
        return {
            hidden(key, secret): _with_hidden(each, secret, levels - 1)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_with_hidden(each, secret, levels - 1) for each in value]
    return value


def _decode_base64(text: str) -> bytes:
    # Nearly all are of the usual kind, for which this takes a fifth of the time (measured).
    with contextlib.suppress(ValueError):
        return binascii.a2b_base64(text, strict_mode=True)
    compact = _BLANKS.sub("", text).translate(_URL_SAFE_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableAnswer("the PDF in the answer is not base64") from error
