"""What the JSON of the API means. Pure functions: nothing here touches the network.

Every field is a proto3 field (vendor's OpenAPI document), so any of them may be absent, and an
empty list is left out altogether: ``{}`` is a valid, empty answer. What is there but cannot be
understood costs that field and one log line for the whole list, never the listing.
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
from dataclasses import dataclass

from invoicefs import names
from invoicefs.errors import TooLarge, UnusableAnswer
from invoicefs.model import Invoice, NamespaceList, parse_time_ns

log = logging.getLogger(__name__)

_REPEATED = {"status", "currency", "period_start", "period_end"}
_PDF_HEADER = b"%PDF-"
# The vendor's enumeration; a status that comes later is shown as it is sent.
_STATUSES = {"unknown", "issued", "pending", "paid", "refunded", "cancelled", "overdue"}
_CENTS = re.compile(r"-?\d+", re.ASCII)
_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")
_BLANKS = re.compile(r"\s+")
_MESSAGE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class InvoicesAnswer:
    """The invoices that can be shown, and how many the server sent, shown or not."""

    invoices: tuple[Invoice, ...]
    count: int


def parse_json(body: bytes) -> object:
    """The JSON value in a body; raises `UnusableAnswer` where it is something else.

    Of texts that many objects of a long list have in common there is one in memory.
    """
    try:
        value: object = json.loads(body, object_hook=_with_shared_texts)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer("the answer is not JSON") from error
    return value


def _with_shared_texts(fields: dict[str, object]) -> dict[str, object]:
    for name in _REPEATED & fields.keys():
        text = fields[name]
        if isinstance(text, str):
            fields[name] = sys.intern(text)
    return fields


def parse_namespaces(answer: object, secret: str = "") -> NamespaceList:
    """The answer to a list of namespaces; raises `UnusableAnswer` where it is none.

    Here and below, should an answer repeat the `secret` that was sent, the log does not.
    """
    fields = _object(answer)
    items = _array(fields, "items", others=("errors",))
    found: list[str] = []
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and names.directory_name(name) is not None:
            found.append(name)
        else:
            log.warning("A namespace without a usable name is not shown: %s", _shown(name, secret))
    if items and not found:
        raise UnusableAnswer("the answer lists namespaces without usable names only")
    return NamespaceList(tuple(dict.fromkeys(found)), bool(fields.get("errors")))


def parse_invoices(answer: object, namespace: str, secret: str = "") -> InvoicesAnswer:
    """The answer to a list of invoices; raises `UnusableAnswer` where it is none."""
    items = _array(_object(answer), "invoices")
    oddities = _Oddities()
    invoices: list[Invoice] = []
    for place, item in enumerate(items):
        if (invoice := _parse_invoice(item, namespace, secret, oddities)) is not None:
            invoices.append(invoice)
        items[place] = None  # its memory is for the next one: half of what a long list would take
    oddities.log(namespace, secret)
    if items and not invoices:
        raise UnusableAnswer("the answer lists invoices without names only")
    return InvoicesAnswer(tuple(invoices), len(items))


def parse_pdf(answer: object, max_size_bytes: int) -> bytes:
    """The PDF in an answer: base64, standard or URL-safe, padded or not.

    Raises `UnusableAnswer` where there is none and `TooLarge` where it exceeds the limit.
    """
    text = _object(answer).get("pdf")
    if not isinstance(text, str) or not text:
        raise UnusableAnswer("the answer holds no PDF")
    pdf = _decode_base64(text)
    if not pdf.startswith(_PDF_HEADER):
        raise UnusableAnswer("what the answer holds is not a PDF")
    if len(pdf) > max_size_bytes:
        raise TooLarge(f"the PDF has {len(pdf)} bytes, more than --max-pdf-size")
    return pdf


def error_message(body: bytes, secret: str) -> str:
    """The server's own words in an error body, on one line; empty where there are none.

    Bodies are JSON with ``message`` or ``error``, a bare JSON string, or anything else. Should
    the server repeat the `secret` that it was asked with, it is `hidden`.
    """
    try:
        answer = parse_json(body)
    except UnusableAnswer:
        return ""
    if isinstance(answer, dict):
        answer = answer.get("message") or answer.get("error")
    text = answer if isinstance(answer, str) else ""
    return on_one_line(hidden(text, secret))


def hidden(text: str, secret: str) -> str:
    """The text with stars in the place of a secret, however that is percent-encoded in it."""
    if not secret or (secret not in text and "%" not in text):
        return text
    forms = (f"(?:{re.escape(each)}|(?i:%{ord(each):02x}))" for each in secret)
    return re.sub("".join(forms), "***", text)


def on_one_line(text: str) -> str:
    """What a server says, for people: printable, without line feeds, of bounded length."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return _BLANKS.sub(" ", printable).strip()[:_MESSAGE_CHARACTERS]


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
    """What is not understood in a list: a line per field, however many invoices have it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[object, object]] = {}

    def note(self, field: str, name: object, value: object) -> None:
        """Count one invoice whose field is not understood."""
        self._counts[field] += 1
        self._first.setdefault(field, (name, value))

    def log(self, namespace: str, secret: str) -> None:
        """Write down what was noted."""
        for field, (name, value) in self._first.items():
            log.warning(
                "The field %r of %d invoices in %s is not understood; the first is %s of %s",
                field,
                self._counts[field],
                namespace,
                _shown(value, secret),
                _shown(name, secret),
            )


def _parse_invoice(
    item: object, namespace: str, secret: str, oddities: _Oddities
) -> Invoice | None:
    fields = item if isinstance(item, dict) else {}
    name = fields.get("name")
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


def _text(value: object) -> str | None:
    """The text of a field, empty where it is absent; None for what is no text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an int64 is text in proto3 JSON, but not every gateway knows
    return value or "" if isinstance(value, str | None) else None


def _status(text: str) -> str:
    return text.lower().removeprefix("status_") or "unknown"


def _is_understood(field: str, text: str) -> bool:
    """Whether it is known what the text of a field means; an empty one means nothing."""
    match field:
        case "status":
            return _status(text) in _STATUSES
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
